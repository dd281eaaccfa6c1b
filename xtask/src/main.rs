fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../ui/src/wire");
    std::fs::create_dir_all(&folder)?;
    berth_wire::export_typescript(&folder)?;
    Ok(())
}
