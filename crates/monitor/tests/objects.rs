//! Objects that users make and delete while the program runs.

mod common;

use common::{Client, World};
use serde_json::{Value, json};

#[track_caller]
fn asks(client: &mut Client, name: &str, arguments: &Value) -> Value {
    client.send(&json!({"execute": name, "arguments": arguments}).to_string());
    let reply: Value = serde_json::from_str(&client.raw()).unwrap();
    if reply["error"].is_object() { reply["error"]["desc"].clone() } else { reply["return"].clone() }
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

#[test]
fn objects_come_and_go_and_are_listed_meanwhile() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    let who = json!({"qom-type": "authz-simple", "id": "who", "identity": "CN=laptop"});
    assert_eq!(asks(&mut client, "object-add", &who), json!({}));
    assert_eq!(
        asks(&mut client, "object-add", &who),
        "attempt to add duplicate property 'who' to object (type 'container')"
    );
    let listed = asks(&mut client, "qom-list", &json!({"path": "/objects"}));
    assert!(names(&listed).contains(&"who"), "{listed}");
    let kind = json!({"path": "/objects/who", "property": "type"});
    assert_eq!(asks(&mut client, "qom-get", &kind), "authz-simple");
    assert_eq!(asks(&mut client, "object-del", &json!({"id": "who"})), json!({}));
    assert_eq!(asks(&mut client, "object-del", &json!({"id": "who"})), "object 'who' not found");
    let listed = asks(&mut client, "qom-list", &json!({"path": "/objects"}));
    assert!(!names(&listed).contains(&"who"), "{listed}");
}

#[test]
fn what_cannot_be_made_is_refused_in_qemus_words() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    let empty = tempfile::tempdir().unwrap();
    let dir = empty.path().display().to_string();
    for (arguments, expected) in [
        (
            json!({"qom-type": "nope", "id": "a"}),
            "Parameter 'qom-type' does not accept value 'nope'".to_owned(),
        ),
        (json!({"qom-type": "authz-simple", "id": "a"}), "Parameter 'identity' is missing".to_owned()),
        (
            json!({"qom-type": "authz-simple", "id": "a", "identity": "CN=a", "dir": "/"}),
            "Parameter 'dir' is unexpected".to_owned(),
        ),
        (
            json!({"qom-type": "authz-simple", "id": "1", "identity": "CN=a"}),
            "Parameter 'id' expects an identifier".to_owned(),
        ),
        (json!({"qom-type": "tls-creds-x509", "id": "a"}), "Missing 'dir' property value".to_owned()),
        (
            json!({"qom-type": "tls-creds-x509", "id": "a", "dir": dir, "endpoint": "both"}),
            "Parameter 'endpoint' does not accept value 'both'".to_owned(),
        ),
        (
            json!({"qom-type": "tls-creds-x509", "id": "a", "dir": dir, "identity": "CN=a"}),
            "Parameter 'identity' is unexpected".to_owned(),
        ),
        (
            json!({"qom-type": "tls-creds-x509", "id": "a", "dir": dir, "endpoint": "server"}),
            format!("Unable to access credentials {dir}/ca-cert.pem: No such file or directory"),
        ),
    ] {
        assert_eq!(asks(&mut client, "object-add", &arguments), expected, "{arguments}");
    }
}

#[test]
fn people_make_them_too() {
    let world = World::new(1);
    let mut client = world.client("qmp");
    let mut types = |line: &str| {
        let reply = asks(&mut client, "human-monitor-command", &json!({"command-line": line}));
        reply.as_str().unwrap().to_owned()
    };
    assert_eq!(types("object_add authz-simple,id=who,identity=O=Example,,CN=a"), "");
    assert_eq!(
        types("object_add authz-simple,id=who,identity=CN=a"),
        "Error: attempt to add duplicate property 'who' to object (type 'container')\r\n"
    );
    assert_eq!(types("object_add authz-simple,id=b"), "Error: Parameter 'identity' is missing\r\n");
    assert_eq!(types("object_add authz-simple,id=b,identity=x,y=z"), "Error: Invalid parameter 'y'\r\n");
    assert_eq!(types("object_add nope,id=b"), "Error: Parameter 'qom-type' does not accept value 'nope'\r\n");
    assert_eq!(
        types("object_add tls-creds-x509,id=b,dir=/nonexistent,endpoint=server"),
        "Error: Unable to access credentials /nonexistent/ca-cert.pem: No such file or directory\r\n"
    );
    assert_eq!(types("object_del who"), "");
    assert_eq!(types("object_del who"), "Error: object 'who' not found\r\n");
}
