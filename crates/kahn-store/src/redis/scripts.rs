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
}

impl Scripts {
    pub(super) fn all(&self) -> [&Script; 11] {
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
});
