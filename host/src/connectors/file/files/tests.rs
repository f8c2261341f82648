//! Files that come and go between two looks.

use super::*;
use crate::connectors::testing::Folder;

/// The files of a stream of one name, and a reader.
fn followed(folder: &Folder) -> (Files, Arc<Member>) {
    let pattern = Pattern::new(&folder.pattern("app.log")).expect("a pattern");
    let files = Files::new(pattern, Watch::new);
    let (member, _) = files.join().expect("a reader");
    (files, member)
}

#[test]
fn what_is_written_while_a_new_file_is_opened_is_known() {
    let folder = Folder::new();
    let (files, member) = followed(&folder);
    let mut state = files.shared.state.lock();

    folder.write("app.log", "");
    state.hear(files.pattern()).expect("events");
    let opened = state.open_unseen().expect("the file");
    folder.append("app.log", "written before its event is heard");
    state.admit(opened, files.pattern()).expect("the file");
    state.tell();

    let lengths = member
        .take()
        .found
        .iter()
        .map(|file| file.length())
        .collect::<Vec<_>>();
    assert_eq!(lengths, [33]);
}

#[test]
fn files_of_one_moment_are_found_in_the_order_in_which_they_were_made() {
    let folder = Folder::new();
    let (files, member) = followed(&folder);
    let state = files.shared.state.lock();
    let moment = std::time::SystemTime::UNIX_EPOCH;
    for name in ["app.log.2", "app.log.1", "app.log"] {
        folder.write("app.log", name);
        let file = File::options()
            .write(true)
            .open(folder.path().join("app.log"));
        file.expect("a file").set_modified(moment).expect("a time");
        if name != "app.log" {
            folder.rename("app.log", name);
        }
    }
    drop(state);
    files.update().expect("the files");

    let found = member.take().found;
    let name = |file: &Arc<Handle>| file.path().file_name().map(|name| name.to_owned());
    let names: Vec<_> = found.iter().filter_map(name).collect();
    assert_eq!(names, ["app.log.2", "app.log.1", "app.log"]);
}
