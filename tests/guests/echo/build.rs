//! Links the kernel where the driver crate's script says.

fn main() {
    for argument in ["-no-pie", "--no-dynamic-linker", "--build-id=none", "-Tpvh.ld"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}
