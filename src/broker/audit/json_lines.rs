//! The sink that is included: a file of JSON, one record a line.

use std::{
    fmt,
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    path::Path,
};

use super::{AuditRecord, AuditSink};
use crate::error::Error;

/// Writes each record as a line of JSON, as [`AuditRecord`] serialises. Lines are flushed when nothing more waits to be
/// written.
pub struct JsonLines {
    out: BufWriter<Box<dyn Write + Send>>,
    /// The last line may be there by half: it was too long for the buffer, and its writing failed.
    torn: bool,
}

impl JsonLines {
    /// Appends to a file, which is made where it is missing, for its owner alone to read.
    ///
    /// # Errors
    ///
    /// `Config` where it cannot be opened.
    pub fn append(path: impl AsRef<Path>) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path.as_ref()).map_err(|error| {
            let path = path.as_ref().to_string_lossy();
            Error::config(format!("audit file {} cannot be opened", crate::text::Quoted(&path)))
                .with_source(error)
        })?;
        Ok(Self::to(file))
    }

    /// Writes to anything: a pipe, standard output, a buffer.
    pub fn to(out: impl Write + Send + 'static) -> Self {
        Self { out: BufWriter::new(Box::new(out)), torn: false }
    }
}

impl AuditSink for JsonLines {
    fn write(&mut self, record: &AuditRecord) -> io::Result<()> {
        let mut line = Vec::with_capacity(512);
        if self.torn {
            // What is there of the one before is a line of its own, and spoils no other.
            line.push(b'\n');
        }
        serde_json::to_writer(&mut line, record)?;
        line.push(b'\n');
        // At once: what fits the buffer is whole or not there.
        let written = self.out.write_all(&line);
        match written {
            Ok(()) => self.torn = false,
            Err(_) => self.torn |= line.len() >= self.out.capacity(),
        }
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl fmt::Debug for JsonLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JsonLines").finish_non_exhaustive()
    }
}
