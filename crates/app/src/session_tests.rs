use berth_wire::{LogLine, OperationId};

use super::*;

fn client(name: &str) -> ClientId {
    name.parse().unwrap()
}

fn request(acks: Vec<Ack>) -> SessionPollReq {
    SessionPollReq { acks, max_bytes: 64 * 1024, wait_milliseconds: 1000 }
}

fn acknowledge(response: &SessionPollRes) -> Vec<Ack> {
    response.frames.iter().map(|frame| Ack { stream: frame.stream, sequence: frame.sequence }).collect()
}

fn log_stream(sessions: &Sessions, page: &ClientId) -> (StreamId, Arc<DropOldestWithGap>, Arc<Notify>) {
    let queue = Arc::new(DropOldestWithGap::new());
    let mut woken = None;
    let stream = sessions
        .open(page, |wake| {
            woken = Some(wake);
            let task = AbortOnDropHandle::new(tokio::spawn(std::future::pending()));
            Source::Log { queue: queue.clone(), _task: task }
        })
        .unwrap();
    (stream, queue, woken.unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_sent_again_with_the_same_numbers() {
    let (world, sessions) = (World::new(), Sessions::new());
    let page = client("page");
    let (_, queue, _) = log_stream(&sessions, &page);
    let session = sessions.session(&page).unwrap();
    queue.push([LogLine(1.0, 0, "one".into())]);
    let lost = session.poll(&world, request(vec![])).await;
    queue.push([LogLine(2.0, 0, "two".into())]);
    let again = session.poll(&world, request(vec![])).await;
    assert_eq!(lost.frames.len(), 1);
    assert_eq!(again.frames.first().map(|frame| frame.sequence), Some(1), "the same frame comes again");
    let next = session.poll(&world, request(acknowledge(&again))).await;
    assert_eq!(next.frames.first().map(|frame| frame.sequence), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_newer_poll_takes_over_from_one_that_waits() {
    let (world, sessions) = (Arc::new(World::new()), Sessions::new());
    let session = sessions.session(&client("page")).unwrap();
    let first = tokio::spawn({
        let (session, world) = (session.clone(), world.clone());
        async move { session.poll(&world, request(vec![])).await }
    });
    tokio::task::yield_now().await;
    let second = tokio::spawn({
        let (session, world) = (session.clone(), world.clone());
        async move { session.poll(&world, request(vec![])).await }
    });
    assert!(first.await.unwrap().frames.is_empty());
    assert!(second.await.unwrap().frames.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_stream_the_server_does_not_have_is_named_at_once() {
    let (world, sessions) = (World::new(), Sessions::new());
    let session = sessions.session(&client("page")).unwrap();
    let stranger = StreamId(7);
    let response = session.poll(&world, request(vec![Ack { stream: stranger, sequence: 3 }])).await;
    assert_eq!(response.unknown, [stranger]);
}

#[tokio::test(start_paused = true)]
async fn the_world_waits_for_the_page_and_then_tells_the_latest() {
    let (world, sessions) = (World::new(), Sessions::new());
    let page = client("page");
    sessions.open(&page, |_| Source::World { revision: None }).unwrap();
    let session = sessions.session(&page).unwrap();
    let first = session.poll(&world, request(vec![])).await;
    assert!(matches!(first.frames.first().map(|frame| &frame.body), Some(FrameBody::World(patch)) if patch.reset));
    for number in 0..100 {
        world.edit(|edit| {
            edit.set_operation(crate::operations::tests::running(OperationId(number)));
        });
    }
    let second = session.poll(&world, request(acknowledge(&first))).await;
    assert_eq!(second.frames.len(), 1, "a hundred changes are one patch");
}

#[tokio::test(start_paused = true)]
async fn many_streams_share_one_answer() {
    let (world, sessions) = (World::new(), Sessions::new());
    let page = client("page");
    let queues: Vec<_> = (0..3).map(|_| log_stream(&sessions, &page)).collect();
    for (_, queue, _) in &queues {
        queue.push((0..5000).map(|_| LogLine(0.0, 0, "x".repeat(100))));
    }
    let session = sessions.session(&page).unwrap();
    let mut wanted = request(vec![]);
    wanted.max_bytes = 256 * 1024;
    let response = session.poll(&world, wanted).await;
    for (stream, _, _) in &queues {
        assert!(response.frames.iter().any(|frame| frame.stream == *stream), "no stream is starved");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ended_is_gone_after_its_end_was_acknowledged() {
    let (world, sessions) = (World::new(), Sessions::new());
    let page = client("page");
    let (stream, queue, _) = log_stream(&sessions, &page);
    queue.finish(FrameBody::End);
    let session = sessions.session(&page).unwrap();
    let end = session.poll(&world, request(vec![])).await;
    assert!(matches!(end.frames.last().map(|frame| &frame.body), Some(FrameBody::End)));
    session.poll(&world, request(acknowledge(&end))).await;
    assert!(!session.inner().streams.contains_key(&stream));
}

#[test]
fn pages_are_bounded() {
    let sessions = Sessions::new();
    for number in 0..SESSIONS {
        sessions.session(&client(&format!("page-{number}"))).unwrap();
    }
    assert!(matches!(sessions.session(&client("one-more")), Err(AppError::TooMany { .. })));
}
