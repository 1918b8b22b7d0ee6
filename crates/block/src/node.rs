//! Block nodes, as `-blockdev` and `-drive` make them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backend::BlockBackend;
use crate::faults::{Faults, Faulty};
use crate::file::{FileOptions, OpenError, RawFile};

/// What a node is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Driver {
    /// A file of the host.
    File,
    /// The raw format: the bytes of another node as they are.
    Raw,
}

impl Driver {
    /// QEMU's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Raw => "raw",
        }
    }
}

/// How far writes go before they are called done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cache {
    /// Writes may stay in the host's cache until a flush.
    pub writeback: bool,
    /// Flushes do nothing.
    pub no_flush: bool,
}

impl Default for Cache {
    fn default() -> Self {
        Self { writeback: true, no_flush: false }
    }
}

/// What is said of a node beside what it is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeOptions {
    /// Its name; for queries and for other nodes.
    pub name: String,
    /// Whether this process may use the image from the beginning; where nobody says, it may.
    pub active: Option<bool>,
    /// Never write.
    pub read_only: bool,
    /// Give the space of discarded bytes back.
    pub discard: bool,
    /// How far writes go.
    pub cache: Cache,
}

/// A node.
pub struct Node {
    options: NodeOptions,
    driver: Driver,
    path: PathBuf,
    read_only: bool,
    image: Arc<RawFile>,
    backend: Arc<dyn BlockBackend>,
    faults: Arc<Faults>,
    child: Option<Arc<Node>>,
}

impl Node {
    /// A file. With `probed` what is obviously no raw image is refused.
    pub fn file(options: NodeOptions, file: &FileOptions, probed: bool) -> Result<Arc<Self>, OpenError> {
        let image = RawFile::open(file)?;
        if options.active == Some(false) {
            image.inactivate();
        }
        if probed {
            image.check_raw(&file.path)?;
        }
        let read_only = image.is_read_only();
        let (image, faults) = (Arc::new(image), Arc::<Faults>::default());
        let below = Arc::clone(&image) as Arc<dyn BlockBackend>;
        let backend = Arc::new(Faulty { image: below, faults: Arc::clone(&faults) });
        let (path, driver) = (file.path.clone(), Driver::File);
        Ok(Arc::new(Self { options, driver, path, read_only, image, backend, faults, child: None }))
    }

    /// The raw format on top of `child`.
    pub fn raw(options: NodeOptions, child: Arc<Node>) -> Arc<Self> {
        let read_only = options.read_only || child.read_only;
        if options.active == Some(false) {
            child.image.inactivate();
        }
        let (path, backend) = (child.path.clone(), Arc::clone(&child.backend));
        let (image, faults) = (Arc::clone(&child.image), Arc::clone(&child.faults));
        let driver = Driver::Raw;
        Arc::new(Self { options, driver, path, read_only, image, backend, faults, child: Some(child) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// What it is.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// The file at the bottom.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing may be written.
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// How far writes go.
    pub fn cache(&self) -> Cache {
        self.options.cache
    }

    /// Whether discards reach the host: every node down to the file must want that.
    pub fn discards(&self) -> bool {
        self.options.discard && self.child.as_ref().is_none_or(|child| child.discards())
    }

    /// Whether flushes reach the host.
    pub fn flushes(&self) -> bool {
        !self.options.cache.no_flush && self.child.as_ref().is_none_or(|child| child.flushes())
    }

    /// The node below.
    pub fn child(&self) -> Option<&Arc<Node>> {
        self.child.as_ref()
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.backend.size()
    }

    /// Bytes that it takes on the host.
    pub fn allocated(&self) -> io::Result<u64> {
        self.backend.allocated()
    }

    /// Whether this process may use the image. Nodes on top of one another share it.
    pub fn is_active(&self) -> bool {
        self.image.is_active()
    }

    /// Has the image used by this process from here on, however others have changed it meanwhile.
    pub fn activate(&self) -> Result<(), OpenError> {
        self.image.activate()
    }

    /// Makes everything durable and leaves the image to others. When that fails it is still this process's.
    pub fn inactivate(&self) -> io::Result<()> {
        if self.is_active() && !self.read_only && self.flushes() {
            self.backend.flush()?;
        }
        self.image.inactivate();
        Ok(())
    }

    /// A disk is attached: others are kept from writing while the image is active.
    pub(crate) fn attach(&self) -> Result<(), OpenError> {
        self.image.attach()
    }

    /// The faults of the file at the bottom.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(crate) fn backend(&self) -> &dyn BlockBackend {
        &*self.backend
    }
}
