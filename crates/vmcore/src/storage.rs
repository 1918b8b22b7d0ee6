//! The host's side of devices that keep data: what may take time, and what may fail.
//!
//! The machine thread never waits for it. [`Device::stop`](crate::Device::stop) returns at once; the engine then tells
//! clients that the machine stands, and only then has [`Storage::flush`] run on a worker. So a disk that hangs hides
//! neither the stop nor `quit`.

use std::io;

use runstate::DeviceId;

/// The host's side of one device.
pub trait Storage: Send + Sync {
    /// The number under which this device holds the machine after an I/O error
    /// ([`DeviceRequest::IoError`](runstate::DeviceRequest::IoError)).
    fn id(&self) -> DeviceId;

    /// Name of the device or of what is behind it, as the operator gave it.
    fn name(&self) -> &str;

    /// Has this process use what is behind the device, however others have changed it meanwhile; nothing if it does already.
    /// Called on a worker or a job's thread while the machine is held: before [`Storage::prepare`], and when what was left
    /// to another machine stays here after all.
    fn activate(&self) -> Result<(), StorageError>;

    /// Drains, makes everything durable, and leaves what is behind the device to others until [`Storage::activate`]. Called
    /// on a job's thread while the machine is held, before another machine goes on as this one. When it fails this
    /// process still has it.
    fn inactivate(&self) -> Result<(), StorageError>;

    /// Everything else about starting that may fail or take time, before anything is told or moves. Called on a worker while
    /// the machine is held. A second call in a row does no harm, so that nothing has to be undone when another device
    /// refuses.
    fn prepare(&self) -> Result<(), StorageError>;

    /// Waits until all that was begun has ended on the host's side, and makes it durable. Called on a worker, after
    /// [`Device::stop`](crate::Device::stop). What ends here reaches the guest when the device starts again.
    fn flush(&self) -> Result<(), StorageError>;

    /// The failed request that was posted last, for BLOCK_IO_ERROR.
    fn io_error(&self) -> Option<IoError>;
}

/// Why a device's host side could not do what it was asked. Cloned to everybody who asked, so it keeps words, not a source.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StorageError {
    /// The host refuses.
    #[error("cannot {operation} '{device}': {reason}")]
    Failed {
        /// Name of the device or of what is behind it, as the operator gave it.
        device: String,
        /// What was asked: "flush", "open".
        operation: &'static str,
        /// What the host said.
        reason: String,
    },
    /// What is behind it is somebody else's, or cannot be had; in the words of who knows.
    #[error("{0}")]
    Inactive(String),
}

impl StorageError {
    /// What the host said to `operation` on `device`.
    pub fn new(device: &str, operation: &'static str, error: &io::Error) -> Self {
        Self::Failed { device: device.to_owned(), operation, reason: error.to_string() }
    }
}

/// A request that failed: the data of BLOCK_IO_ERROR, but for what is done about it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IoError {
    /// Name of the back end, empty if it has none (`-drive id=`).
    pub device: String,
    /// Name of the block node, if it was given one.
    pub node_name: Option<String>,
    /// Path of the device in the object tree.
    pub qom_path: String,
    /// Whether the request was a read; otherwise a write (a flush and a discard count as writes).
    pub read: bool,
    /// Whether the host had no space left.
    pub no_space: bool,
    /// What the host said, for people.
    pub reason: String,
}
