use proptest::prelude::*;
use serde_json::json;

use super::*;

fn events(recorded: &str) -> Vec<TransferEvent> {
    let values = recorded.lines().map(|line| serde_json::from_str(line).unwrap());
    values.filter_map(|value| Message::read(value).unwrap().transfer()).collect()
}

const PULL: &str = r#"{"status":"Pulling from library/alpine","id":"3"}
{"status":"Pulling fs layer","progressDetail":{},"id":"4abcf2066143"}
{"status":"Waiting","progressDetail":{},"id":"9a6ed5c2d5de"}
{"status":"Downloading","progressDetail":{"current":1000,"total":4000},"progress":"[=>  ]","id":"4abcf2066143"}
{"status":"Retrying in 5 seconds","progressDetail":{},"id":"4abcf2066143"}
{"status":"Downloading","progressDetail":{"current":10,"total":4000},"id":"4abcf2066143"}
{"status":"Already exists","progressDetail":{},"id":"9a6ed5c2d5de"}
{"status":"Verifying Checksum","progressDetail":{},"id":"4abcf2066143"}
{"status":"Download complete","progressDetail":{},"id":"4abcf2066143"}
{"status":"Extracting","progressDetail":{"current":9000,"total":9000},"id":"4abcf2066143"}
{"status":"Pull complete","progressDetail":{},"id":"4abcf2066143"}
{"status":"Digest: sha256:c5b1261d6d3e43071626931fc004f70149baeba2c8ec672bd4f27761f8e1ad6b"}
{"status":"Status: Downloaded newer image for alpine:3"}"#;

#[test]
fn a_pull_adds_up_and_never_goes_backwards() {
    let mut progress = PullProgress::default();
    let (mut done, mut fraction) = (0, 0.0);
    for event in events(PULL) {
        progress.apply(&event);
        assert!(progress.done() >= done && progress.fraction() >= fraction, "{event:?}");
        (done, fraction) = (progress.done(), progress.fraction());
    }
    assert_eq!((progress.done(), progress.total(), progress.layers().len()), (4000, 4000, 2));
    assert_eq!((progress.fraction(), progress.changed), (1.0, Some(true)));
    assert!(progress.digest.is_some());
    assert!(progress.layers().iter().all(|layer| layer.phase.is_final()));
}

#[test]
fn a_push_tells_the_digest_once_it_is_there() {
    let seen = events(concat!(
        r#"{"status":"The push refers to repository [localhost:5000/a]"}"#,
        "\n",
        r#"{"status":"Preparing","progressDetail":{},"id":"2b67feaf9241"}"#,
        "\n",
        r#"{"status":"Mounted from b","progressDetail":{},"id":"2b67feaf9241"}"#,
        "\n",
        r#"{"status":"1: digest: sha256:0000000000000000000000000000000000000000000000000000000000000000 size: 528"}"#,
        "\n",
        r#"{"progressDetail":{},"aux":{"Tag":"1","Digest":"sha256:0000000000000000000000000000000000000000000000000000000000000000","Size":528}}"#,
    ));
    let mounted = LayerPhase::MountedFrom("b".into());
    assert!(matches!(seen.get(2), Some(TransferEvent::Layer(layer)) if layer.phase == mounted));
    for pushed in seen.iter().rev().take(2) {
        assert!(matches!(pushed, TransferEvent::Pushed { tag, size: 528, .. } if tag == "1"), "{pushed:?}");
    }
}

#[test]
fn layers_that_are_there_are_not_the_whole() {
    let mut progress = PullProgress::default();
    let phase = LayerPhase::AlreadyExists;
    progress.apply(&TransferEvent::Layer(LayerEvent { id: "a".into(), phase, current: None, total: None }));
    assert_eq!(progress.fraction(), 0.0);
    progress.apply(&TransferEvent::Finished { changed: false, text: String::new() });
    assert_eq!(progress.fraction(), 1.0);
}

#[test]
fn errors_in_the_stream_are_errors() {
    let error = |value| Message::read(value).unwrap_err().to_string();
    assert_eq!(error(json!({"errorDetail": {"code": 1, "message": "denied \n"}, "error": "x"})), "denied");
    assert_eq!(error(json!({"error": "x"})), "x");
    assert_eq!(error(json!({"errorDetail": {}})), "The engine failed without saying why");
    assert!(error(json!({"error": "ä".repeat(100_000)})).len() <= TEXT_CAP);
    assert!(Message::read(json!({"error": "", "errorDetail": null})).is_ok());
}

#[test]
fn what_is_wrong_is_left_out() {
    let message = Message::read(json!({"id": 3, "status": ["x"], "progressDetail": {"current": -1, "total": 1e300}}));
    assert_eq!(message.unwrap(), Message::default());
    let note = Message::read(json!({"id": "latest", "status": "Pulling from x"})).unwrap().transfer();
    assert_eq!(note, Some(TransferEvent::Note { id: "latest".into(), text: "Pulling from x".into() }));
    let odd = Message::read(json!({"id": "4abcf2066143", "status": "Dreaming"})).unwrap().transfer();
    assert!(matches!(odd, Some(TransferEvent::Layer(LayerEvent { phase: LayerPhase::Other(_), .. }))));
}

#[test]
fn the_number_of_layers_is_bounded() {
    let mut progress = PullProgress::default();
    for id in 0..10 * LAYERS {
        let layer = LayerEvent {
            id: id.to_string(),
            phase: LayerPhase::Downloading,
            current: Some(u64::MAX),
            total: Some(u64::MAX),
        };
        progress.apply(&TransferEvent::Layer(layer));
    }
    assert_eq!((progress.layers().len(), progress.total()), (LAYERS, u64::MAX));
}

proptest! {
    #[test]
    fn nothing_goes_backwards(
        steps in prop::collection::vec((0_u8..4, 0_usize..9, any::<Option<u64>>(), any::<Option<u64>>()), 0..60),
    ) {
        let phases = ["Downloading", "Waiting", "Retrying in 3 seconds", "Extracting", "Pull complete", "Pushed",
            "Already exists", "Verifying Checksum", "whatever"];
        let mut progress = PullProgress::default();
        let mut before = (0, 0, 0.0);
        for (id, phase, current, total) in steps {
            let phase = LayerPhase::from_status(phases.get(phase).unwrap());
            progress.apply(&TransferEvent::Layer(LayerEvent { id: id.to_string(), phase, current, total }));
            let now = (progress.done(), progress.total(), progress.fraction());
            prop_assert!(now.0 >= before.0 && now.1 >= before.1 && now.2 >= before.2 && now.2 <= 1.0);
            before = now;
        }
    }

    #[test]
    fn any_object_is_read(text in r#"\{"(status|id|error|aux|stream|progressDetail)":("[a-z: ]{0,8}"|\{\}|null|0|-?[1-9][0-9]{0,3}|\[\])\}"#) {
        if let Ok(message) = Message::read(serde_json::from_str(&text).unwrap()) {
            let _ = message.transfer();
        }
    }
}
