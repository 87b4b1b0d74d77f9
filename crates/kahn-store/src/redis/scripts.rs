//! The Lua scripts. Nothing else writes to Redis.

use std::sync::LazyLock;

/// A script and the digest by which a server knows it once it is loaded.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) text: &'static str,
    pub(super) sha: String,
}

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, sha: ::redis::Script::new(text).get_hash().to_owned() }
    }

    /// Returns a call with these keys. The caller adds the other arguments.
    pub(super) fn on(&self, keys: &[&str]) -> ::redis::Cmd {
        let mut call = ::redis::cmd("EVALSHA");
        call.arg(&self.sha).arg(keys.len()).arg(keys);
        call
    }
}

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) append: Script,
    pub(super) acquire: Script,
    pub(super) renew: Script,
    pub(super) release: Script,
    pub(super) checkpoint: Script,
    pub(super) read: Script,
    pub(super) put_blob: Script,
    pub(super) delete_blobs: Script,
    pub(super) create: Script,
    pub(super) mark: Script,
    pub(super) complete: Script,
    pub(super) import_begin: Script,
    pub(super) import_clear: Script,
    pub(super) import_unlink: Script,
    pub(super) import_blobs: Script,
    pub(super) import_checkpoint: Script,
    pub(super) import_entries: Script,
    pub(super) import_epoch: Script,
    pub(super) import_join: Script,
    pub(super) import_complete: Script,
    pub(super) import_leave: Script,
}

impl Scripts {
    pub(super) fn all(&self) -> [&Script; 21] {
        [
            &self.append,
            &self.acquire,
            &self.renew,
            &self.release,
            &self.checkpoint,
            &self.read,
            &self.put_blob,
            &self.delete_blobs,
            &self.create,
            &self.mark,
            &self.complete,
            &self.import_begin,
            &self.import_clear,
            &self.import_unlink,
            &self.import_blobs,
            &self.import_checkpoint,
            &self.import_entries,
            &self.import_epoch,
            &self.import_join,
            &self.import_complete,
            &self.import_leave,
        ]
    }
}

pub(super) static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts {
    append: Script::new(include_str!("../scripts/append.lua")),
    acquire: Script::new(include_str!("../scripts/acquire.lua")),
    renew: Script::new(include_str!("../scripts/renew.lua")),
    release: Script::new(include_str!("../scripts/release.lua")),
    checkpoint: Script::new(include_str!("../scripts/checkpoint.lua")),
    read: Script::new(include_str!("../scripts/read.lua")),
    put_blob: Script::new(include_str!("../scripts/put_blob.lua")),
    delete_blobs: Script::new(include_str!("../scripts/delete_blobs.lua")),
    create: Script::new(include_str!("../scripts/create.lua")),
    mark: Script::new(include_str!("../scripts/mark.lua")),
    complete: Script::new(include_str!("../scripts/complete.lua")),
    import_begin: Script::new(include_str!("../scripts/import_begin.lua")),
    import_clear: Script::new(include_str!("../scripts/import_clear.lua")),
    import_unlink: Script::new(include_str!("../scripts/import_unlink.lua")),
    import_blobs: Script::new(include_str!("../scripts/import_blobs.lua")),
    import_checkpoint: Script::new(include_str!("../scripts/import_checkpoint.lua")),
    import_entries: Script::new(include_str!("../scripts/import_entries.lua")),
    import_epoch: Script::new(include_str!("../scripts/import_epoch.lua")),
    import_join: Script::new(include_str!("../scripts/import_join.lua")),
    import_complete: Script::new(include_str!("../scripts/import_complete.lua")),
    import_leave: Script::new(include_str!("../scripts/import_leave.lua")),
});
