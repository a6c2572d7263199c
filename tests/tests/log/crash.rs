//! kill -9 of the real broker under load: every answered exchange is in the log, the log verifies and replays, and no
//! head that was ever shown is contradicted.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use unefois_tests::process::{self, Process};
use unefois_tests::told::{Told, check_told, draw, load};
use unefois_tests::world;

fn kills() -> usize {
    std::env::var("UNEFOIS_KILLS").ok().map_or(50, |kills| kills.parse().expect("UNEFOIS_KILLS is a number"))
}

#[test]
fn a_killed_broker_loses_no_answer_and_contradicts_no_head() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let root = tempfile::tempdir().unwrap();
    let (folder, key) = process::folder(&root.path().join("broker"), process::free_address());
    let config = std::fs::read_to_string(folder.config()).unwrap();
    // Small segments, so that kills meet changes of segment too.
    let config = config.replace("path = \"data\"", "path = \"data\"\nsegment_mb = 1\nmin_free_mb = 0");
    std::fs::write(folder.config(), config).unwrap();
    let data = folder.path.join("data");
    let told = Arc::new(Mutex::new(Told::default()));
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let seed = u64::try_from(seed).unwrap_or(1) | 1;
    let (mut state, kills) = (seed, kills());
    println!("seed {seed}, {kills} kills");
    for kill in 1..=kills {
        let broker = Process::serve_with(&folder.config(), "warn,unefois::serve=info");
        let loading = runtime.spawn({
            let (profile, told, key) = (folder.profile("ville"), told.clone(), key.clone());
            async move { load(&profile, told, key).await }
        });
        std::thread::sleep(Duration::from_millis(20 + draw(&mut state, 280)));
        broker.kill();
        runtime.block_on(loading).unwrap();
        check_told(&data, &told.lock().unwrap());
        if kill % 10 == 0 {
            world::check_log(&data, &key);
        }
        if kill % 100 == 0 {
            println!("{kill} kills: {} answers, all there", told.lock().unwrap().answers.len());
        }
    }
    let answers = told.lock().unwrap().answers.len();
    assert!(answers > kills, "the load was too light: {answers} answers in {kills} kills");
    // Every exchange that was under way got its end, and the fold is what a replay gives.
    let broker = Process::serve_with(&folder.config(), "warn,unefois::serve=info");
    assert_eq!(broker.terminate(), Some(0));
    let report = world::check(&data, &key);
    check_told(&data, &told.lock().unwrap());
    println!("{kills} kills: {answers} answers and {} entries, all there", report.entries);
}
