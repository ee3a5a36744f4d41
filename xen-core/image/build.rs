//! Links the image where the boot code expects itself.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../boot/image.ld");
    println!("cargo:rerun-if-changed={script}");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        for argument in [
            "-no-pie",
            "--no-dynamic-linker",
            "--build-id=none",
            &format!("-T{script}"),
        ] {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}
