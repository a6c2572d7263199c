use super::*;

/// A connector to a shell script, which nobody ever answers for, and the folder that it runs in.
fn script(text: &str, config: &[(&str, serde_json::Value)]) -> (PluginConnector, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("script"), text).unwrap();
    let mut whole = json!({"command": ["/bin/sh", "script"], "datasets": [DATASET]});
    whole.as_object_mut().unwrap().extend(config.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    (open(whole, folder.path()), folder)
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn runs(pid: &str) -> bool {
    // A zombie that nobody has waited for yet has no command line.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[tokio::test]
async fn a_process_that_ends_is_begun_anew() {
    let (connector, folder) = script("echo $$ >> started", &[]);
    let asked = asked();
    assert_eq!(connector.fetch(asked.fetch()).await, Err(SourceFault::Down("its process ended")));
    until(|| lines(&folder.path().join("started")).len() >= 3).await;
}

#[tokio::test]
async fn one_that_does_not_serve_in_time_is_ended_with_its_group() {
    let (connector, folder) = script("sleep 1000 & echo $! >> started; wait", &[]);
    let asked = asked();
    let why = "it did not complete its handshake and description in time";
    assert_eq!(connector.fetch(asked.fetch()).await, Err(SourceFault::Down(why)));
    let first = lines(&folder.path().join("started")).remove(0);
    until(|| !runs(&first)).await;
}

#[tokio::test]
async fn it_ends_with_the_connector_and_its_input_ends_with_the_broker() {
    let (connector, folder) = script("echo $$ > started; cat > input; echo over > input; sleep 1000", &[]);
    connector.start();
    let started = folder.path().join("started");
    until(|| lines(&started).len() == 1).await;
    let pid = lines(&started).remove(0);
    assert!(runs(&pid) && lines(&folder.path().join("input")).is_empty());
    drop(connector);
    until(|| !runs(&pid)).await;
}

#[tokio::test]
async fn nobody_else_may_enter_the_folder_of_its_socket() {
    let (connector, folder) = script("stat -c %a \"${UNEFOIS_SOCKET%/*}\" > mode; sleep 1000", &[]);
    connector.start();
    let mode = folder.path().join("mode");
    until(|| !lines(&mode).is_empty()).await;
    assert_eq!(lines(&mode), ["700"]);
}

#[tokio::test]
async fn it_gets_nothing_of_the_brokers_environment_and_output() {
    let environment = json!({"SPORT": "a b"});
    let (connector, folder) = script(
        "env > seen; exec 3>&1; readlink /proc/self/fd/3 >> seen; ulimit -d >> seen; sleep 1000",
        &[("environment", environment), ("max_memory_mb", json!(512))],
    );
    connector.start();
    let seen = folder.path().join("seen");
    until(|| lines(&seen).iter().any(|line| line.parse::<u64>().is_ok())).await;
    let seen = lines(&seen);
    let names: BTreeSet<_> = seen.iter().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let own = ["LANG", "PATH", "SPORT", "UNEFOIS_SOCKET"];
    // The shell adds two.
    assert!(names.iter().all(|name| own.contains(name) || ["PWD", "_"].contains(name)), "{seen:?}");
    assert!(own.iter().all(|name| names.contains(name)), "{seen:?}");
    assert!(seen.contains(&"/dev/null".to_owned()), "{seen:?}");
    assert!(seen.contains(&(512 * 1024).to_string()), "{seen:?}");
}

#[tokio::test]
async fn what_it_prints_is_appended_to_a_file_that_nobody_else_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let (connector, folder) = script("echo out; echo why >&2", &[("output_file", json!("sport.log"))]);
    connector.start();
    let log = folder.path().join("sport.log");
    until(|| lines(&log).len() >= 4).await;
    assert_eq!(lines(&log)[..4], ["out", "why", "out", "why"]);
    assert_eq!(std::fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&log, PermissionsExt::from_mode(0o644)).unwrap();
    let config = json!({"command": ["/bin/sh", "script"], "datasets": [DATASET], "output_file": "sport.log"});
    let config = serde_json::from_value(config).unwrap();
    let error = PluginConnector::open(&"sport".parse().unwrap(), &config, folder.path()).unwrap_err().to_string();
    assert!(error.starts_with("output_file") && error.contains("chmod 600"), "{error}");
}

#[test]
fn a_program_that_others_may_replace_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plugin");
    let refused = |mode: Option<u32>| {
        if let Some(mode) = mode {
            std::fs::write(&path, "#!/bin/sh").unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        }
        let config = serde_json::from_value(json!({"command": ["./plugin"], "datasets": [DATASET]})).unwrap();
        let opened = PluginConnector::open(&"sport".parse().unwrap(), &config, folder.path());
        opened.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert!(refused(None).contains("cannot be opened"));
    assert!(refused(Some(0o644)).contains("chmod +x"));
    assert!(refused(Some(0o775)).contains("chmod go-w"));
    assert_eq!(refused(Some(0o755)), "");
    // A script is as good as the program that runs it.
    std::fs::write(folder.path().join("script"), "").unwrap();
    std::fs::set_permissions(folder.path().join("script"), PermissionsExt::from_mode(0o666)).unwrap();
    let config = serde_json::from_value(json!({"command": ["/bin/sh", "script"], "datasets": [DATASET]})).unwrap();
    let error = PluginConnector::open(&"sport".parse().unwrap(), &config, folder.path()).unwrap_err().to_string();
    assert!(error.contains("script") && error.contains("chmod go-w"), "{error}");
}
