//! Which NVMe namespace a disk is, as sysfs has it.

use crate::paths::Paths;
use std::fs;
use std::path::{Path, PathBuf};

/// A namespace's place in sysfs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the disk: nvme0n1.
    pub disk: String,
    /// Its directory.
    pub dir: PathBuf,
    /// The controller's directory, or the subsystem's of a multipath namespace.
    pub controller: String,
    /// All its controllers are on PCIe.
    pub local: bool,
    /// Number of the character node, if it has one.
    pub node: Option<(u32, u32)>,
    /// The kernel's NUMA nodes, as it writes them: "0-1".
    nodes: PathBuf,
}

impl Place {
    /// Name of the character node: ng0n1.
    pub fn node_name(&self) -> String {
        format!("ng{}", &self.disk["nvme".len()..])
    }

    /// Whether the disk is there still.
    pub fn exists(&self) -> bool {
        self.dir.join("size").exists()
    }

    /// The controllers that reach it now.
    pub fn paths(&self) -> Paths {
        let Some(above) = self.dir.parent() else {
            return Paths::default();
        };
        let name = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
        if above.join("transport").exists() {
            return Paths {
                controllers: name(above).into_iter().collect(),
                alternate: None,
            };
        }
        let mut reach: Vec<String> = controllers(above)
            .filter(|controller| self.has_path_below(controller))
            .filter_map(|controller| name(&controller))
            .collect();
        reach.sort();
        Paths {
            controllers: reach,
            alternate: self.alternates(above),
        }
    }

    /// Whether a controller has a path of the head nvme0n1: nvme0c3n1 of the
    /// controller nvme3, say.
    fn has_path_below(&self, controller: &Path) -> bool {
        let Some((subsystem, namespace)) = self.disk["nvme".len()..].split_once('n') else {
            return false;
        };
        let is_path = |name: &str| {
            name.strip_prefix("nvme")
                .and_then(|rest| rest.strip_prefix(subsystem)?.strip_prefix('c'))
                .and_then(|rest| rest.split_once('n'))
                .is_some_and(|(controller, path)| digits(controller) && path == namespace)
        };
        let entries = fs::read_dir(controller).into_iter().flatten().flatten();
        entries
            .into_iter()
            .any(|entry| is_path(&entry.file_name().to_string_lossy()))
    }

    /// Why commands for a head take its paths by turns, if they do. By the policy
    /// "numa" they keep to one for each NUMA node.
    fn alternates(&self, subsystem: &Path) -> Option<String> {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let attribute = subsystem.join("iopolicy");
        let policy = read(&attribute);
        if !matches!(policy.trim(), "numa" | "") {
            return Some(format!(
                "the policy is {}; write numa to {} to let them keep to one",
                policy.trim(),
                attribute.display()
            ));
        }
        let several = read(&self.nodes).contains([',', '-']);
        several.then(|| "one for each NUMA node of this machine".to_owned())
    }
}

/// The sysfs to read: another one than /sys in tests.
pub struct Sysfs(PathBuf);

impl Default for Sysfs {
    fn default() -> Sysfs {
        Sysfs("/sys".into())
    }
}

impl Sysfs {
    #[cfg(test)]
    pub fn at(root: &Path) -> Sysfs {
        Sysfs(root.to_owned())
    }

    /// The namespace that the whole disk of this number is; None if it is none.
    /// A multipath namespace is its head: the hidden paths have no number.
    pub fn namespace(&self, (major, minor): (u32, u32)) -> Option<Place> {
        let link = self.0.join(format!("dev/block/{major}:{minor}"));
        // Of most disks the link alone tells that they are none.
        let disk = fs::read_link(&link).ok()?;
        if !disk.file_name()?.to_str()?.starts_with("nvme") {
            return None;
        }
        let dir = fs::canonicalize(link).ok()?;
        let disk = dir.file_name()?.to_str()?.to_owned();
        let (controller, namespace) = disk.strip_prefix("nvme")?.split_once('n')?;
        if !digits(controller) || !digits(namespace) {
            return None;
        }
        let above = dir.parent()?;
        let mut place = Place {
            disk,
            dir: dir.clone(),
            controller: above.to_str()?.to_owned(),
            local: is_local(above),
            node: None,
            nodes: self.0.join("devices/system/node/online"),
        };
        let class = self.0.join("class/nvme-generic").join(place.node_name());
        place.node = fs::read_to_string(class.join("dev"))
            .ok()
            .and_then(|text| number(text.trim()));
        Some(place)
    }
}

/// Whether a controller, or each of a subsystem's, is on PCIe.
fn is_local(dir: &Path) -> bool {
    let on_pcie = |dir: &Path| {
        fs::read_to_string(dir.join("transport")).is_ok_and(|text| text.trim() == "pcie")
    };
    if dir.join("transport").exists() {
        return on_pcie(dir);
    }
    let mut all = controllers(dir).peekable();
    all.peek().is_some() && all.all(|path| on_pcie(&path))
}

/// The controllers in a subsystem's directory.
fn controllers(subsystem: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(subsystem).into_iter().flatten().flatten();
    entries
        .filter(|entry| is_controller(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .filter(|path| path.join("transport").exists())
}

/// Of nvme0, nvme0n1, ng0n1 and the attributes beside them, the first.
fn is_controller(name: &str) -> bool {
    name.strip_prefix("nvme").is_some_and(digits)
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// "8:16" as a number.
fn number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(root: &Path, from: &str, to: &str) {
        let from = root.join(from);
        fs::create_dir_all(from.parent().unwrap()).unwrap();
        symlink(root.join(to), from).unwrap();
    }

    #[test]
    fn a_namespace_is_found_with_its_character_node() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        put(root, "devices/pci/nvme/nvme3/transport", "pcie\n");
        put(root, "devices/pci/nvme/nvme3/nvme3n2/size", "8\n");
        link(root, "dev/block/259:7", "devices/pci/nvme/nvme3/nvme3n2");
        put(root, "devices/pci/nvme/nvme3/ng3n2/dev", "237:5\n");
        link(
            root,
            "class/nvme-generic/ng3n2",
            "devices/pci/nvme/nvme3/ng3n2",
        );
        let place = Sysfs::at(root).namespace((259, 7)).unwrap();
        assert_eq!(place.disk, "nvme3n2");
        assert_eq!(place.node_name(), "ng3n2");
        assert_eq!(place.node, Some((237, 5)));
        assert!(place.local && place.exists());
        assert!(place.controller.ends_with("/nvme/nvme3"));
        fs::remove_dir_all(root.join("devices/pci/nvme/nvme3/nvme3n2")).unwrap();
        assert!(!place.exists());
        assert_eq!(Sysfs::at(root).namespace((259, 8)), None);
    }

    #[test]
    fn a_multipath_head_belongs_to_its_subsystem() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let subsystem = "devices/virtual/nvme-subsystem/nvme-subsys0";
        put(root, "devices/a/nvme0/transport", "pcie\n");
        put(root, "devices/b/nvme1/transport", "tcp\n");
        put(root, &format!("{subsystem}/nvme0n1/size"), "8\n");
        link(root, &format!("{subsystem}/nvme0"), "devices/a/nvme0");
        link(root, "dev/block/259:1", &format!("{subsystem}/nvme0n1"));
        let place = Sysfs::at(root).namespace((259, 1)).unwrap();
        assert!(place.controller.ends_with("/nvme-subsys0"));
        assert!(place.local);
        assert_eq!(place.node, None);
        link(root, &format!("{subsystem}/nvme1"), "devices/b/nvme1");
        assert!(!Sysfs::at(root).namespace((259, 1)).unwrap().local);
    }

    #[test]
    fn a_heads_paths_are_those_of_its_controllers() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let subsystem = "devices/virtual/nvme-subsystem/nvme-subsys1";
        // Namespace 1 by both controllers, 2 and 12 by one each.
        for (at, controller, path) in [
            ("a", "nvme1", "nvme1c1n1"),
            ("a", "nvme1", "nvme1c1n12"),
            ("b", "nvme2", "nvme1c2n1"),
            ("b", "nvme2", "nvme1c2n2"),
        ] {
            put(root, &format!("devices/{at}/{controller}/transport"), "tcp");
            put(root, &format!("devices/{at}/{controller}/{path}/size"), "8");
        }
        for (at, controller) in [("a", "nvme1"), ("b", "nvme2")] {
            let from = format!("{subsystem}/{controller}");
            link(root, &from, &format!("devices/{at}/{controller}"));
        }
        let head = |number: u32| {
            let dir = format!("{subsystem}/nvme1n{number}");
            put(root, &format!("{dir}/size"), "8\n");
            let at = format!("dev/block/259:{number}");
            if !root.join(&at).exists() {
                link(root, &at, &dir);
            }
            let place = Sysfs::at(root).namespace((259, number)).unwrap();
            place.paths()
        };
        let both = vec!["nvme1".to_owned(), "nvme2".to_owned()];
        assert_eq!(head(1).controllers, both);
        assert_eq!(head(2).controllers, ["nvme2"]);
        assert_eq!(head(12).controllers, ["nvme1"]);
        assert!(head(3).controllers.is_empty());
        assert!(head(12).refusal(&head(2)).is_some());
        assert_eq!(head(1).refusal(&head(2)), None);

        put(root, &format!("{subsystem}/iopolicy"), "numa\n");
        put(root, "devices/system/node/online", "0\n");
        assert_eq!(head(1).alternate, None);
        put(root, "devices/system/node/online", "0-1\n");
        assert!(head(1).alternate.is_some_and(|why| why.contains("NUMA")));
        put(root, &format!("{subsystem}/iopolicy"), "round-robin\n");
        let why = head(1).alternate.unwrap();
        assert!(why.contains("round-robin") && why.ends_with("keep to one"));

        // Without multipath a namespace is below its controller.
        link(root, "dev/block/8:1", "devices/a/nvme1/nvme1n5");
        put(root, "devices/a/nvme1/nvme1n5/size", "8\n");
        let alone = Sysfs::at(root).namespace((8, 1)).unwrap().paths();
        assert_eq!(alone.controllers, ["nvme1"]);
        assert_eq!(alone.alternate, None);
    }

    #[test]
    fn other_disks_are_none() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for (at, name) in ["sda", "nvme0c1n1", "nvmexn1", "nvme0n", "nvme", "nvme0n1p1"]
            .iter()
            .enumerate()
        {
            put(root, &format!("devices/{name}/size"), "8\n");
            link(
                root,
                &format!("dev/block/9:{at}"),
                &format!("devices/{name}"),
            );
            assert_eq!(Sysfs::at(root).namespace((9, at as u32)), None, "{name}");
        }
    }
}
