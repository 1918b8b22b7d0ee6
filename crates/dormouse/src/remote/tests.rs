use super::*;
use serde_json::json;

fn parsed(line: &str) -> Result<Task, RemoteError> {
    parse(line.split_whitespace().map(OsString::from))
}

#[test]
fn places_and_deeds_are_understood() {
    let unix = |path: &str| Place::Unix(path.into());
    assert_eq!(
        parsed("migrate /run/qmp tcp:other:4444").unwrap(),
        Task::Migrate { place: unix("/run/qmp"), uri: "tcp:other:4444".to_owned() }
    );
    assert_eq!(
        parsed("snapshot save tcp:localhost:1 a").unwrap(),
        Task::Snapshot {
            deed: snapshot::Deed::Save,
            place: Place::Tcp("localhost:1".to_owned()),
            name: "a".to_owned()
        }
    );
    assert_eq!(Place::parse("unix:qmp"), unix("qmp"));
    assert_eq!(parsed("snapshot --help").unwrap(), Task::Help);
    for wrong in ["migrate", "migrate a", "migrate a b c", "snapshot save a", "snapshot keep a b", "snapshot"]
    {
        assert!(matches!(parsed(wrong), Err(RemoteError::Usage(_))), "{wrong}");
    }
}

#[test]
fn what_is_known_of_a_migration_is_said() {
    let info = json!({
        "status": "active", "total-time": 1500, "downtime": 3,
        "ram": {"total": 1000, "remaining": 400, "transferred": 3 << 20, "mbps": 8.388_608, "dirty-sync-count": 2}
    });
    assert_eq!(migrate::done_of(&info), (600, 1000));
    assert_eq!(migrate::message(&info), "active, pass 2, 3.00 MiB sent, 1.00 MiB/s");
    assert_eq!(migrate::summary(&info), "3.00 MiB sent in 1500 ms, 2 passes; the guest stood for 3 ms");
    assert_eq!(migrate::done_of(&json!({"status": "setup"})), (0, 0));
    assert_eq!(migrate::message(&json!({})), "none, pass 1, 0 B sent, 0 B/s");
}
