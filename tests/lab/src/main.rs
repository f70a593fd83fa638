//! conclave-lab
fn main() -> anyhow::Result<()> {
    println!("{:?}", conclave_lab::Install::ensure()?);
    Ok(())
}
