//! Compiles `proto/` without a `protoc` on the machine.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = "nullius/agent/v1/agent.proto";
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile([file], ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
