//! What the disk can do below the log.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;
use unefois_tests::load::{Load, closed_loop};

/// The least that a durable log can do: one thread appends what waits and calls `fdatasync`, then answers.
pub(crate) async fn raw(folder: &Path, submitters: usize, entry_bytes: usize, duration: Duration) -> Load {
    let (queue, waiting) = crossbeam_channel::bounded::<oneshot::Sender<()>>(16_384);
    let path = folder.join("raw");
    // As ours: the blocks are there before they are used.
    let mut file = std::fs::File::create(&path).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..256 {
        file.write_all(&zeros).unwrap();
    }
    file.sync_all().unwrap();
    let writer = std::thread::spawn(move || {
        use std::os::unix::fs::FileExt;
        let entry = vec![7; entry_bytes];
        let mut offset = 0;
        while let Ok(first) = waiting.recv() {
            let mut replies = vec![first];
            replies.extend(waiting.try_iter().take(4_095));
            let bytes = entry.repeat(replies.len());
            if offset + bytes.len() as u64 > 256 << 20 {
                offset = 0;
            }
            file.write_all_at(&bytes, offset).unwrap();
            file.sync_data().unwrap();
            offset += bytes.len() as u64;
            for reply in replies {
                let _ = reply.send(());
            }
        }
    });
    let load = closed_loop(submitters, duration, move |_, _| {
        let queue = queue.clone();
        async move {
            let (sender, reply) = oneshot::channel();
            queue.send(sender).unwrap();
            reply.await.unwrap();
        }
    })
    .await;
    writer.join().unwrap();
    std::fs::remove_file(path).unwrap();
    load
}
