//! Compiles the definition of the API: with protox, so that no machine needs protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["service.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // A call that is not served answers Unimplemented.
        .generate_default_stubs(true)
        // Holds passwords: what is shown of it is written by hand.
        .skip_debug(["runtime.v1.AuthConfig"])
        .compile_fds(files)?;
    Ok(())
}
