use std::fs;
use std::path::{Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";

/// Removes the engine's own cgroups from every hierarchy. What is not empty stays: it is then not ours alone.
pub(crate) fn remove(name: &str) {
    for hierarchy in hierarchies(Path::new(MOUNT)) {
        remove_tree(&hierarchy.join(name));
    }
}

/// The roots of the host's hierarchies: the mount itself with cgroup v2, one folder per controller with v1.
fn hierarchies(mount: &Path) -> Vec<PathBuf> {
    if mount.join("cgroup.controllers").exists() {
        return vec![mount.to_path_buf()];
    }
    fs::read_dir(mount)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir() && !path.is_symlink())
        .collect()
}

fn remove_tree(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::hierarchies;

    #[test]
    fn both_versions_of_cgroups_are_told_apart() {
        let folder = std::env::temp_dir().join(format!("berth-cgroups-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("memory")).unwrap();
        assert_eq!(hierarchies(&folder), vec![folder.join("memory")]);
        std::fs::write(folder.join("cgroup.controllers"), "").unwrap();
        assert_eq!(hierarchies(&folder), vec![folder.clone()]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
