//! A disk whose power can be cut: `shared/tools/powercut`, beside the checkout. It needs Go, root, FUSE and a loop device.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The program that makes such disks, built. Where the tool is not beside the checkout, or where
/// `UNEFOIS_WITHOUT_POWER_CUT=1` allows to leave power cuts out, `None`, and one printed line that says why; where the
/// machine lacks something otherwise, the test fails.
pub fn powercut() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/tools/powercut");
    if !source.is_dir() {
        println!("power cuts: not run: there is no shared/tools/powercut beside the checkout");
        return None;
    }
    match build(&source) {
        Ok(program) => Some(program),
        Err(why) if std::env::var_os("UNEFOIS_WITHOUT_POWER_CUT").is_some_and(|value| value == "1") => {
            println!("power cuts: not run: {why}");
            None
        }
        Err(why) => panic!("power cannot be cut: {why}. UNEFOIS_WITHOUT_POWER_CUT=1 leaves these tests out"),
    }
}

fn build(source: &Path) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("mounting a disk needs root".to_owned());
    }
    for (device, what) in [("/dev/fuse", "FUSE"), ("/dev/loop-control", "a loop device")] {
        if !Path::new(device).exists() {
            return Err(format!("{device} is not there, and the disk needs {what}"));
        }
    }
    if Command::new("mkfs.ext4").arg("-V").output().is_err() {
        return Err("mkfs.ext4 is missing; it comes with e2fsprogs".to_owned());
    }
    let program = std::env::current_exe().unwrap().with_extension("powercut");
    let built = Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(source).output();
    let built = built.map_err(|error| format!("Go 1.24 or later is needed to build the disk: {error}"))?;
    if !built.status.success() {
        return Err(format!("the disk does not build: {}", String::from_utf8_lossy(&built.stderr)));
    }
    Ok(program)
}

/// A mounted disk. It is unmounted when dropped; whoever has files open there must have ended by then.
#[derive(Debug)]
pub struct Disk {
    program: PathBuf,
    folder: PathBuf,
    up: Child,
}

impl Disk {
    /// Makes a disk with a file system, `ext4` or `xfs`, and mounts it below `folder`.
    pub fn up(program: &Path, folder: &Path, file_system: &str) -> Self {
        let up = Command::new(program)
            .arg("up")
            .arg(folder)
            .args(["-size", "400M", "-fs", file_system])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut disk = Self { program: program.to_owned(), folder: folder.to_owned(), up };
        let mut said = String::new();
        BufReader::new(disk.up.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert!(said.starts_with("ready"), "the disk is not mounted; powercut says why above: {said:?}");
        disk
    }

    /// Where it is mounted.
    pub fn mount(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    /// Cuts the power: what is on the disk now, after this, is what [`Disk::remount`] shows. Says what was lost.
    pub fn cut(&self, seed: u64) -> String {
        self.run("cut", &["-seed", &seed.to_string()])
    }

    /// Mounts what the cut left. Nobody has a file open on the disk any more.
    pub fn remount(&self) {
        self.run("remount", &[]);
    }

    fn run(&self, verb: &str, options: &[&str]) -> String {
        let output = Command::new(&self.program).arg(verb).arg(&self.folder).args(options).output().unwrap();
        assert!(output.status.success(), "powercut {verb}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whatever `up` got to is undone; a test that fails says so elsewhere.
        let _ = Command::new(&self.program).arg("down").arg(&self.folder).output();
        // `up` unmounts its side and ends.
        let deadline = Instant::now() + Duration::from_secs(5);
        while self.up.try_wait().is_ok_and(|ended| ended.is_none()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.up.kill();
        let _ = self.up.wait();
        for folder in ["mnt", "fuse"] {
            let _ = Command::new("umount").args(["-q", "-l"]).arg(self.folder.join(folder)).output();
        }
    }
}
