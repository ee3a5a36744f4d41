//! Lets kernels that use the feature `pvh` find its linker script by name.

fn main() {
    println!("cargo:rerun-if-changed=pvh.ld");
    if std::env::var_os("CARGO_FEATURE_PVH").is_some()
        && let Some(here) = std::env::var_os("CARGO_MANIFEST_DIR")
    {
        println!("cargo:rustc-link-search={}", here.display());
    }
}
