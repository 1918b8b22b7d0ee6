//! From options to disks: opens the images, and makes what devices and monitors have of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use block::{Disk, DiskConfig, Node, OpenError};

use crate::cli::{NodeKind, NodeOption, Options, VirtioKind, VirtioOption};

/// Everything about disks, by the names that options give.
#[derive(Default)]
pub(crate) struct Disks {
    /// In the order in which they were opened, those below before those above.
    pub(crate) nodes: Vec<Arc<Node>>,
    /// By virtio slot.
    by_slot: BTreeMap<usize, Arc<Disk>>,
}

impl Disks {
    /// Opens what `options` name.
    pub(crate) fn open(options: &Options) -> Result<Self, OpenError> {
        let mut disks = Self::default();
        for option in &options.nodes {
            let node = disks.open_node(option, options.incoming.is_none())?;
            disks.nodes.push(node);
        }
        for option in &options.virtio {
            let VirtioKind::Block(disk) = &option.kind else { continue };
            // The command line has made sure that it is there.
            let Some(node) = disks.node(&disk.node) else { continue };
            let writeback = disk.writeback.unwrap_or(node.cache().writeback);
            let disk = Disk::new(DiskConfig {
                name: disk.drive.clone(),
                qdev: option.id.clone().unwrap_or_else(|| qom_path(options, option)),
                node: Arc::clone(node),
                policy: disk.policy,
                writeback,
            })?;
            disks.by_slot.insert(option.slot, Arc::new(disk));
        }
        Ok(disks)
    }

    /// The disk of the device in a slot.
    pub(crate) fn in_slot(&self, slot: usize) -> Option<&Arc<Disk>> {
        self.by_slot.get(&slot)
    }

    /// Every disk, by slot.
    pub(crate) fn all(&self) -> Vec<Arc<Disk>> {
        self.by_slot.values().map(Arc::clone).collect()
    }

    fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.name() == name)
    }

    /// `active`: it may be used at once, unless the operator says otherwise; what is still another machine's may not.
    fn open_node(&self, option: &NodeOption, active: bool) -> Result<Arc<Node>, OpenError> {
        let mut options = option.options.clone();
        options.active.get_or_insert(active);
        match &option.kind {
            NodeKind::File { file, probed } => {
                let node = Node::file(options, file, *probed)?;
                if *probed {
                    crate::say(format_args!(
                        "warning: image format was not specified for '{}': it is taken as raw, whatever is in it; \
                         say format=raw",
                        file.path.display()
                    ));
                }
                Ok(node)
            }
            NodeKind::Raw { child } => match self.node(child) {
                Some(child) => Ok(Node::raw(options, Arc::clone(child))),
                // Nodes come after those below them: the command line has made sure of that.
                None => Err(OpenError::NoChild { name: child.clone() }),
            },
        }
    }
}

/// The path of a device in the object tree: by its id, or by its place among those that have none.
pub(crate) fn qom_path(options: &Options, device: &VirtioOption) -> String {
    if let Some(id) = &device.id {
        return format!("/machine/peripheral/{id}");
    }
    let unnamed = options.virtio.iter().filter(|other| other.id.is_none());
    let place = unnamed.take_while(|other| other.slot != device.slot).count();
    format!("/machine/peripheral-anon/device[{place}]")
}
