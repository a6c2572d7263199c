//! The process of a plugin: a group of its own, without the broker's environment, output and secrets.

use std::fs::{File, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, Signal, geteuid, kill_process_group, prlimit};
use tempfile::TempDir;
use tokio::process::{Child, ChildStdin, Command};

use super::PluginConfig;
use crate::config::ConnectorConfigError;

/// How to start the process.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    max_memory: Option<u64>,
    output: Option<PathBuf>,
    folder: PathBuf,
}

impl Program {
    /// Refuses a program that is not there, or that others than the broker's user and root may replace.
    pub(super) fn open(config: &PluginConfig, base_dir: &Path) -> Result<Self, ConnectorConfigError> {
        let Some((program, arguments)) = config.command.split_first() else {
            return Err(ConnectorConfigError::invalid("command", "names the program by its path"));
        };
        let path = std::path::absolute(base_dir.join(program)).unwrap_or_else(|_| base_dir.join(program));
        let program = Self {
            path,
            arguments: arguments.to_vec(),
            environment: config.environment.clone().into_iter().collect(),
            max_memory: config.max_memory_mb.map(|megabytes| megabytes << 20),
            output: config.output_file.as_ref().map(|path| base_dir.join(path)),
            folder: base_dir.to_owned(),
        };
        program.check().map_err(|(path, problem)| ConnectorConfigError::file("command", &path, problem))?;
        if let Some(path) = &program.output {
            append(path).map_err(|problem| ConnectorConfigError::file("output_file", path, problem))?;
        }
        Ok(program)
    }

    /// Looks at the program, and at the arguments that are files: a script is as good as the program that runs it.
    fn check(&self) -> Result<(), (PathBuf, &'static str)> {
        let file = std::fs::metadata(&self.path).map_err(|_| (self.path.clone(), "cannot be opened"))?;
        if !file.is_file() || file.permissions().mode() & 0o111 == 0 {
            return Err((self.path.clone(), "is no program; run: chmod +x on it"));
        }
        let arguments = self.arguments.iter().map(|argument| self.folder.join(argument));
        for path in [self.path.clone()].into_iter().chain(arguments) {
            let Ok(file) = std::fs::metadata(&path) else { continue };
            if file.is_file() && file.permissions().mode() & 0o022 != 0 {
                return Err((path, "others may change it; run: chmod go-w on it"));
            }
            if file.is_file() && path.parent().is_some_and(others_may_add) {
                return Err((path, "others may put another file there; run: chmod go-w on its folder"));
            }
            if file.is_file() && ![0, geteuid().as_raw()].contains(&file.uid()) {
                return Err((path, "belongs neither to root nor to the broker's user"));
            }
        }
        Ok(())
    }

    /// Starts it. Its socket is in a new folder that nobody else may enter.
    pub(super) fn start(&self) -> Result<Process, &'static str> {
        self.check().map_err(|(_, problem)| problem)?;
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("unefois-plugin-").permissions(private).tempdir();
        let folder = folder.map_err(|_| "no folder for its socket could be made in the temporary folder")?;
        let socket = folder.path().join("socket");
        let (output, errors) = self.outputs()?;
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("UNEFOIS_SOCKET", &socket)
            // Held open as long as the broker lives.
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true);
        if !self.folder.as_os_str().is_empty() {
            command.current_dir(&self.folder);
        }
        let mut child = command.spawn().map_err(|_| "its program could not be started")?;
        // Waiting for the process would close what it holds.
        let input = child.stdin.take();
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let process = Process { child, pid, socket, _input: input, _folder: folder };
        if let (Some(bytes), Some(pid)) = (self.max_memory, pid) {
            let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
            prlimit(Some(pid), Resource::Data, limit).map_err(|_| "its memory could not be limited")?;
        }
        Ok(process)
    }

    /// What it prints may name persons: it goes where the operator says, or nowhere.
    fn outputs(&self) -> Result<(Stdio, Stdio), &'static str> {
        let Some(path) = &self.output else { return Ok((Stdio::null(), Stdio::null())) };
        let file = append(path)?;
        let errors = file.try_clone().map_err(|_| "its output file could not be opened")?;
        Ok((file.into(), errors.into()))
    }
}

/// A file that the broker's user alone can read, opened at its end.
fn append(path: &Path) -> Result<File, &'static str> {
    let opened = File::options().append(true).create(true).mode(0o600).open(path);
    let file = opened.map_err(|_| "cannot be written")?;
    let mode = file.metadata().map_or(0o777, |file| file.permissions().mode());
    if mode & 0o077 != 0 { Err("others may read it; run: chmod 600 on it") } else { Ok(file) }
}

/// Whether others than its owner may replace what is in a folder. Where it is sticky (`/tmp`), they may not.
fn others_may_add(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|folder| {
        let mode = folder.permissions().mode();
        mode & 0o022 != 0 && mode & 0o1000 == 0
    })
}

/// A process that runs; it ends, with its process group, when this is dropped. What left the group goes on: under systemd until
/// the broker stops.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    pid: Option<Pid>,
    socket: PathBuf,
    _input: Option<ChildStdin>,
    _folder: TempDir,
}

impl Process {
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Waits until the process ended by itself: its exit code, or the signal that ended it.
    pub(super) async fn ended(&mut self) -> (Option<i32>, Option<i32>) {
        // An error means that there is none.
        let status = self.child.wait().await.ok();
        (status.and_then(|status| status.code()), status.and_then(|status| status.signal()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(group) = self.pid {
            // Those that are gone cannot be ended.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
