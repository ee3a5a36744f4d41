//! Links the micro-guests at fixed physical addresses.

fn main() {
    let script = format!(
        "{}/link.ld",
        std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default()
    );
    println!("cargo:rerun-if-changed={script}");
    for argument in [
        "-no-pie",
        "--no-dynamic-linker",
        "--build-id=none",
        &format!("-T{script}"),
    ] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
