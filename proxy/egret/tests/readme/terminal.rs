//! A program on a terminal: what it says to people is not what it says to a pipe.

use std::{
    fs::File,
    io::Read,
    process::{Child, Command},
    sync::{Arc, Condvar, Mutex},
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// A running program and what it has said so far.
pub(crate) struct Terminal {
    child: Child,
    said: Arc<Said>,
    reading: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Said(Mutex<String>, Condvar);

impl Terminal {
    /// Starts the program with its three streams on a terminal of its own.
    pub(crate) fn start(mut command: Command) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let size = Winsize { ws_row: 50, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
        let theirs = || File::options().read(true).write(true).open(&name).unwrap();
        let child =
            command.stdin(theirs()).stdout(theirs()).stderr(theirs()).env("TERM", "xterm").spawn();
        // The command holds copies of the terminal; with them open it would never end.
        drop(command);
        let said = Arc::new(Said::default());
        let (heard, mut ours) = (said.clone(), File::from(ours));
        let reading = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // A terminal that nobody has open any more ends with an error.
            while let Ok(length @ 1..) = ours.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..length]).replace('\r', "");
                heard.0.lock().unwrap().push_str(&text);
                heard.1.notify_all();
            }
        });
        Self { child: child.unwrap(), said, reading: Some(reading) }
    }

    /// Waits until the program has said `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        let said = self.said.0.lock().unwrap();
        let wait = self.said.1.wait_timeout_while(said, Duration::from_secs(30), |said| {
            !anstream::adapter::strip_str(said).to_string().contains(text)
        });
        let (said, waited) = wait.unwrap();
        assert!(!waited.timed_out(), "{text:?} was not said:\n{said}");
    }

    /// Ends the program by SIGTERM, and returns all that it has said, without colours.
    pub(crate) fn end(mut self) -> String {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        self.reading.take().unwrap().join().unwrap();
        let said = anstream::adapter::strip_str(&self.said.0.lock().unwrap()).to_string();
        assert!(status.success(), "{said}");
        said
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
