fn main() -> Result<(), Box<dyn std::error::Error>> {
    // With a manifest of its own commands, Tauri lets a window call only what its capability allows.
    let manifest = tauri_build::AppManifest::new().commands(&["rpc"]);
    tauri_build::try_build(tauri_build::Attributes::new().app_manifest(manifest))?;
    Ok(())
}
