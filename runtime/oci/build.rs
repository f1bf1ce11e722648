//! How the static program is linked: with the entry that starts it in a read-only view of itself, and with what its verbs
//! use put together (`layout.ld`).

use std::env::var;

fn main() {
    println!("cargo:rerun-if-changed=layout.ld");
    let features = var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    let is_static = features.split(',').any(|feature| feature == "crt-static");
    if is_static && var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        println!("cargo:rustc-link-arg-bins=-Wl,-e,iechor_start");
        println!(
            "cargo:rustc-link-arg-bins=-Wl,-T,{}/layout.ld",
            var("CARGO_MANIFEST_DIR").unwrap_or_default()
        );
    }
}
