use std::collections::BTreeMap;

use berth_wire::ContainerState;

use super::*;

fn key(number: u64) -> ContainerKey {
    ContainerKey { engine: "bundled".parse().unwrap(), id: format!("{number:064x}").parse().unwrap() }
}

fn row(number: u64, name: &str) -> ContainerRow {
    let key = key(number);
    ContainerRow {
        engine: key.engine,
        id: key.id,
        name: name.to_owned(),
        image: String::new(),
        command: String::new(),
        state: ContainerState::Running,
        status: String::new(),
        health: None,
        exit_code: None,
        out_of_memory: false,
        error: None,
        restart_count: 0,
        created: 0.0,
        started: None,
        finished: None,
        ports: Vec::new(),
        project: None,
        service: None,
        project_folder: None,
        networks: Vec::new(),
        labels: BTreeMap::new(),
    }
}

/// What a page does with a patch.
fn apply(page: &mut BTreeMap<ContainerKey, String>, patch: &WorldPatch) {
    if patch.reset {
        page.clear();
    }
    for key in &patch.containers_removed {
        page.remove(key);
    }
    for row in &patch.containers {
        page.insert(ContainerKey { engine: row.engine.clone(), id: row.id.clone() }, row.name.clone());
    }
}

#[test]
fn the_first_patch_is_everything_and_later_ones_are_the_difference() {
    let world = World::new();
    world.edit(|edit| {
        edit.set_container(row(1, "web"));
        edit.set_container(row(2, "db"));
    });
    let first = world.patch_since(None).unwrap();
    assert!(first.reset);
    assert_eq!(first.containers.len(), 2);
    assert!(world.patch_since(Some(first.revision)).is_none(), "nothing changed");

    world.edit(|edit| {
        edit.set_container(row(1, "web"));
        edit.remove_container(&key(2));
    });
    let second = world.patch_since(Some(first.revision)).unwrap();
    assert!(!second.reset);
    assert!(second.containers.is_empty(), "an equal row is no change");
    assert_eq!(second.containers_removed, [key(2)]);
}

#[test]
fn a_row_that_went_and_came_back_is_not_reported_as_gone() {
    let world = World::new();
    world.edit(|edit| edit.set_container(row(1, "web")));
    let before = world.patch_since(None).unwrap().revision;
    world.edit(|edit| edit.remove_container(&key(1)));
    world.edit(|edit| edit.set_container(row(1, "again")));
    let patch = world.patch_since(Some(before)).unwrap();
    assert!(patch.containers_removed.is_empty());
    assert_eq!(patch.containers.first().map(|row| row.name.as_str()), Some("again"));
}

#[test]
fn a_revision_from_another_life_gets_everything() {
    let world = World::new();
    world.edit(|edit| edit.set_container(row(1, "web")));
    assert!(world.patch_since(Some(77)).unwrap().reset);
}

#[test]
fn a_page_that_is_too_far_behind_gets_everything() {
    let world = World::new();
    world.edit(|edit| edit.set_container(row(0, "first")));
    let old = world.patch_since(None).unwrap().revision;
    world.edit(|edit| (0..=REMOVALS as u64).for_each(|number| edit.set_container(row(number, "x"))));
    world.edit(|edit| (0..=REMOVALS as u64).for_each(|number| edit.remove_container(&key(number))));
    let patch = world.patch_since(Some(old)).unwrap();
    assert!(patch.reset && patch.containers.is_empty());
}

#[test]
fn pages_at_any_pace_end_up_with_the_same_rows() {
    let world = World::new();
    let mut pages: Vec<(Option<u64>, BTreeMap<ContainerKey, String>)> = vec![(None, BTreeMap::new()); 4];
    for step in 0..400_u64 {
        let number = (step * 7 + step / 3) % 13;
        world.edit(|edit| {
            if step % 3 == 0 {
                edit.remove_container(&key(number));
            } else {
                edit.set_container(row(number, &format!("step {step}")));
            }
        });
        for (pace, (revision, page)) in pages.iter_mut().enumerate() {
            if step % (1 + pace as u64 * 5) == 0
                && let Some(patch) = world.patch_since(*revision)
            {
                apply(page, &patch);
                *revision = Some(patch.revision);
            }
        }
    }
    let mut truth = BTreeMap::new();
    apply(&mut truth, &world.patch_since(None).unwrap());
    for (revision, page) in &mut pages {
        if let Some(patch) = world.patch_since(*revision) {
            apply(page, &patch);
        }
        assert_eq!(page, &truth);
    }
}
