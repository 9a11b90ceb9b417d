//! A network of one's own, in which every address belongs to the test.
//!
//! [`Namespace::enter`] moves the calling process into a new network and mount namespace (and, for
//! an ordinary user, a user namespace in which it is root), brings `lo` up and makes every IPv4 and
//! IPv6 address local, so that a listener on the wildcard address stands on all of them: public
//! ones, metadata addresses, private ones. `/etc/resolv.conf` and `/etc/hosts` are the test's own.
//! Nothing that runs inside can reach the real network. It must happen before the first thread is
//! started, in `main` of a test without the standard harness; the kernel refuses it later.

use std::{
    ffi::CString,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use rustix::{
    io::Errno,
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
    },
    process::{getegid, geteuid},
    thread::UnshareFlags,
};

mod netlink;

/// The variable that makes a test fail, not pass, where the system forbids namespaces.
pub const REQUIRE: &str = "EGRET_REQUIRE_NETNS";

/// The name server that the namespace's `resolv.conf` names; [`crate::dns`] listens there.
pub const NAME_SERVER: &str = "127.0.0.53";

/// The way into a private network; see [`Namespace::enter`].
#[derive(Debug, Clone, Copy)]
pub struct Namespace;

impl Namespace {
    /// Enters new namespaces; the process stays in them until it ends.
    pub fn enter() -> Result<Entered, Unavailable> {
        let threads = thread_count().map_err(step("count the threads"))?;
        if threads != 1 {
            return Err(Unavailable::Threads(threads));
        }
        let (uid, gid) = (geteuid(), getegid());
        let bare = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
        let entered = if uid.is_root() { unshare(bare) } else { Err(Errno::PERM) };
        if entered.is_err() {
            // Root of a container without CAP_SYS_ADMIN takes the way of an ordinary user.
            unshare(bare | UnshareFlags::NEWUSER)
                .map_err(|error| Unavailable::Unshare { source: error.into(), hint: hint() })?;
            let map = |file: &str, text: String| {
                fs::write(format!("/proc/self/{file}"), text).map_err(step("map the user"))
            };
            map("setgroups", "deny".to_owned())?;
            map("uid_map", format!("0 {} 1", uid.as_raw()))?;
            map("gid_map", format!("0 {} 1", gid.as_raw()))?;
        }
        netlink::loopback_is_everything().map_err(step("set up the loopback device"))?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(|error| step("make the mounts private")(error.into()))?;
        let entered = Entered { directory: private_directory().map_err(step("make a folder"))? };
        for name in ["resolv.conf", "hosts"] {
            let own = entered.directory.join(name);
            fs::write(&own, "").map_err(step("write the name files"))?;
            mount_bind(&own, format!("/etc/{name}"))
                .map_err(|error| step("bind the name files")(error.into()))?;
        }
        entered.name_files("", "").map_err(step("write the name files"))?;
        Ok(entered)
    }

    /// Enters, or says loudly that nothing was run and with which status the test binary must end:
    /// success with a note, or failure where `EGRET_REQUIRE_NETNS=1`.
    pub fn require() -> Result<Entered, ExitCode> {
        Self::enter().map_err(|reason| {
            let required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
            let note = if required { "FAILED" } else { "NOT RUN" };
            eprintln!("\n{:=<78}\n{note}: no network namespace: {reason}", "");
            if !required {
                eprintln!(
                    "Nothing of this test binary was checked. {REQUIRE}=1 makes this a failure."
                );
            }
            eprintln!("{:=<78}\n", "");
            if required { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        })
    }
}

/// The proof that the process is in its own network, and what is private to it.
#[derive(Debug)]
pub struct Entered {
    directory: PathBuf,
}

impl Entered {
    /// The private folder, for configurations, certificates and state; removed at the end.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Rewrites `resolv.conf` and `hosts`: the scripted name server and `localhost`, then the
    /// extra lines given.
    pub fn name_files(&self, resolv_extra: &str, hosts_extra: &str) -> io::Result<()> {
        // Written in place: a new file would not be the one that is bound.
        fs::write(
            self.directory.join("resolv.conf"),
            format!("nameserver {NAME_SERVER}\n{resolv_extra}\n"),
        )?;
        fs::write(
            self.directory.join("hosts"),
            format!("127.0.0.1 localhost\n::1 localhost\n{hosts_extra}\n"),
        )
    }

    /// Makes packets to and from an address vanish without a word, until the value is dropped: who
    /// speaks from there has gone, as far as the other side can tell.
    pub fn swallow(&self, address: Ipv4Addr) -> io::Result<Swallowed> {
        netlink::swallow(address)?;
        Ok(Swallowed(address))
    }

    /// Bounds what the kernel keeps in the buffers of each new TCP socket, until the value is
    /// dropped: what a program holds is then its own.
    pub fn small_buffers(&self, bytes: usize) -> io::Result<SmallBuffers> {
        let mut before = Vec::new();
        for name in ["tcp_rmem", "tcp_wmem"] {
            let path = Path::new("/proc/sys/net/ipv4").join(name);
            before.push((path.clone(), fs::read_to_string(&path)?));
            fs::write(path, format!("4096 {bytes} {bytes}"))?;
        }
        Ok(SmallBuffers(before))
    }

    /// Makes a folder a volume of its own that holds so many bytes, until the value is dropped.
    pub fn small_volume(&self, folder: &Path, bytes: u64) -> io::Result<SmallVolume> {
        let size = CString::new(format!("size={bytes}"))?;
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), Some(&*size))?;
        Ok(SmallVolume(folder.to_owned()))
    }
}

/// An address to which nothing gets through.
#[derive(Debug)]
pub struct Swallowed(Ipv4Addr);

impl Drop for Swallowed {
    fn drop(&mut self) {
        // It ends with the namespace at the latest.
        let _ = netlink::release(self.0);
    }
}

/// Small buffers of TCP sockets.
#[derive(Debug)]
pub struct SmallBuffers(Vec<(PathBuf, String)>);

impl Drop for SmallBuffers {
    fn drop(&mut self) {
        for (path, text) in &self.0 {
            // They end with the namespace at the latest.
            let _ = fs::write(path, text);
        }
    }
}

/// A volume that is soon full.
#[derive(Debug)]
pub struct SmallVolume(PathBuf);

impl Drop for SmallVolume {
    fn drop(&mut self) {
        // It ends with the namespace at the latest.
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        // The bound files keep existing for this namespace; what cannot be removed is only litter.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Why there is no private network.
#[derive(Debug)]
pub enum Unavailable {
    /// The process already has several threads, so the kernel would refuse.
    Threads(usize),
    /// The system forbids new namespaces.
    Unshare {
        /// What the kernel said.
        source: io::Error,
        /// What usually helps.
        hint: &'static str,
    },
    /// The namespaces are there, but one step of furnishing them failed.
    Step {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl std::fmt::Display for Unavailable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Threads(count) => write!(f, "the process has {count} threads; enter before any"),
            Self::Unshare { source, hint } => {
                write!(f, "the system forbids new namespaces ({source}){hint}")
            }
            Self::Step { what, source } => write!(f, "could not {what} ({source})"),
        }
    }
}

impl std::error::Error for Unavailable {}

#[expect(
    deprecated,
    reason = "unsound for UnshareFlags::FILES only, which is never passed; so no unsafe is needed"
)]
fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    rustix::thread::unshare(flags)
}

fn step(what: &'static str) -> impl Fn(io::Error) -> Unavailable {
    move |source| Unavailable::Step { what, source }
}

fn thread_count() -> io::Result<usize> {
    Ok(fs::read_dir("/proc/self/task")?.count())
}

fn hint() -> &'static str {
    let knob = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";
    if fs::read_to_string(knob).is_ok_and(|text| text.trim() == "1") {
        "; AppArmor forbids user namespaces: kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
    } else {
        "; run as root, or allow unprivileged user namespaces"
    }
}

fn private_directory() -> io::Result<PathBuf> {
    let directory = tempfile::Builder::new().prefix("egret-test-").tempdir()?;
    Ok(directory.keep())
}
