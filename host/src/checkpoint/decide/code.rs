//! Which code of a stage a start runs: it follows from the state directory and the job file alone.

use crate::records::StageRecord;

/// What the operator wants of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    /// What follows from directory and job file.
    #[default]
    ByRule,
    /// The recorded code.
    Recorded,
    /// The file that the job names.
    File,
}

/// The code that a start runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// The file that the job names.
    File,
    /// The recorded code, although the file has another component.
    Recorded(Why),
}

/// Why the recorded code runs, and not the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The operator wants it.
    Asked,
    /// The file is the one that it was when the code was chosen.
    FileUnchanged,
    /// The file was changed, to a component that was taken back before.
    FileRolledBack,
    /// What it does is held, so that it can be taken back: that comes first.
    Holds,
}

/// Chooses. `recorded`: what the directory knows of the stage; `holds`: it holds what it does, and nobody has decided what becomes of that;
/// `file`: the component in the file that the job names now.
pub fn choose_code(
    recorded: Option<&StageRecord>,
    holds: bool,
    file: &str,
    wanted: Wanted,
) -> Chosen {
    let Some(recorded) = recorded else {
        return Chosen::File;
    };
    match wanted {
        Wanted::Recorded => Chosen::Recorded(Why::Asked),
        _ if holds && recorded.code.component != file => Chosen::Recorded(Why::Holds),
        Wanted::File => Chosen::File,
        Wanted::ByRule if recorded.code.component == file => Chosen::File,
        Wanted::ByRule if recorded.file == file => Chosen::Recorded(Why::FileUnchanged),
        Wanted::ByRule if recorded.rolled_back.iter().any(|back| back == file) => {
            Chosen::Recorded(Why::FileRolledBack)
        }
        Wanted::ByRule => Chosen::File,
    }
}

/// From which version the state has to be migrated before other code runs, if it has to. `recorded`: the version of the state, 0: no code
/// has named one; `code`: the version that the code reads and writes, 0: it names none.
///
/// # Errors
/// The code does not read the state, in a sentence.
pub fn migration(recorded: u32, code: u32) -> Result<Option<u32>, String> {
    match code {
        0 if recorded > 0 => Err(format!(
            "the state is of version {recorded}, and the component does not say which it reads: it does not export `wasm-host:task/migration`"
        )),
        _ if code < recorded => Err(format!(
            "the state is of version {recorded}, and the component reads version {code}: state does not go back"
        )),
        _ => Ok((code > recorded).then_some(recorded)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StageId;

    /// Recorded component, component in the file when it was chosen, component in the file now, what is wanted, what runs.
    #[test]
    fn the_table_of_the_documents() {
        const ROLLED_BACK: &str = "R";
        let file_unchanged = Chosen::Recorded(Why::FileUnchanged);
        let rows = [
            ("A", "A", "A", Wanted::ByRule, Chosen::File),
            ("A", "A", "B", Wanted::ByRule, Chosen::File),
            ("B", "A", "A", Wanted::ByRule, file_unchanged),
            ("B", "A", "B", Wanted::ByRule, Chosen::File),
            ("B", "A", "C", Wanted::ByRule, Chosen::File),
            (
                "A",
                ROLLED_BACK,
                ROLLED_BACK,
                Wanted::ByRule,
                file_unchanged,
            ),
            ("A", ROLLED_BACK, "A", Wanted::ByRule, Chosen::File),
            (
                "A",
                "C",
                ROLLED_BACK,
                Wanted::ByRule,
                Chosen::Recorded(Why::FileRolledBack),
            ),
            (
                "A",
                "A",
                "B",
                Wanted::Recorded,
                Chosen::Recorded(Why::Asked),
            ),
            ("B", "A", "A", Wanted::File, Chosen::File),
            ("A", ROLLED_BACK, ROLLED_BACK, Wanted::File, Chosen::File),
        ];
        for (component, then, now, wanted, runs) in rows {
            let recorded = StageRecord {
                file: then.to_owned(),
                rolled_back: vec![ROLLED_BACK.to_owned()],
                ..StageRecord::new(StageId(0), 1, component)
            };
            let chosen = choose_code(Some(&recorded), false, now, wanted);
            assert_eq!(chosen, runs, "{component} {then} {now} {wanted:?}");
            let chosen = choose_code(Some(&recorded), true, now, wanted);
            let runs = match component == now && wanted != Wanted::Recorded {
                true => Chosen::File,
                false if wanted == Wanted::Recorded => Chosen::Recorded(Why::Asked),
                false => Chosen::Recorded(Why::Holds),
            };
            assert_eq!(chosen, runs, "held: {component} {then} {now} {wanted:?}");
        }
    }

    #[test]
    fn state_is_migrated_to_higher_versions_only() {
        for (recorded, code, from) in [(0, 0, None), (0, 1, Some(0)), (2, 2, None), (2, 5, Some(2))]
        {
            assert_eq!(migration(recorded, code), Ok(from), "{recorded} {code}");
        }
        assert!(migration(2, 1).is_err_and(|why| why.contains("reads version 1")));
        assert!(migration(1, 0).is_err_and(|why| why.contains("does not export")));
    }

    #[test]
    fn a_stage_without_state_runs_the_file() {
        for wanted in [Wanted::ByRule, Wanted::Recorded, Wanted::File] {
            assert_eq!(choose_code(None, false, "A", wanted), Chosen::File);
        }
    }
}
