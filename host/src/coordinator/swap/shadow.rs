//! Shadows as swaps: new code is tried beside the code that runs, until it is promoted or dropped.

use std::sync::Arc;

use parking_lot::Mutex;

use super::{ASKED_FOR, Candidate, SwapRequest, Wanted, recorded};
use crate::coordinator::mail::Mail;
use crate::coordinator::shadow::{Shadow, ShadowLength, ShadowReport, Tried};
use crate::coordinator::tasks::StageNow;
use crate::coordinator::{Coordinator, StageOptions, View};
use crate::records::SwapState;

impl Coordinator {
    /// Why nothing can be tried beside the code of a stage.
    pub(super) fn refuses_shadow(&self, at: usize) -> Option<String> {
        let now = self.factory.stage(at);
        let stage = &now.options.name;
        match self.shadows.get(&at) {
            Some(shadow) if self.is_tried(shadow) => {
                return Some(format!(
                    "tries other code already: `wasm-host swap {stage} --drop` ends that"
                ));
            }
            Some(shadow) if shadow.is_running() => {
                return Some("has not ended the last trial yet: try again".to_owned());
            }
            _ => {}
        }
        let mut inputs = now.options.inputs.iter().map(|input| &input.stream);
        let once = inputs.find(|input| !self.factory.stream(input).options.is_rewindable());
        once.map(|stream| {
            format!("cannot try code: stream {stream:?} cannot be read again, which that needs")
        })
    }

    fn is_tried(&self, shadow: &Shadow) -> bool {
        let swap = self.swaps.get(shadow.id);
        swap.is_some_and(|swap| !swap.state.is_over())
    }

    /// A candidate is tried beside the code that runs.
    pub(super) fn begin_shadow(
        &mut self,
        id: u64,
        at: usize,
        candidate: Candidate,
        length: ShadowLength,
    ) {
        self.swap = None;
        if let Some(why) = reaches_outside(&candidate.options) {
            return self.end_shadow(id, SwapState::Refused, why);
        }
        let control = self.factory.stage(at);
        let Candidate {
            options,
            label,
            migrates_from,
            ..
        } = candidate;
        let record = recorded(&control.record, &options, &label);
        let report = Arc::new(Mutex::new(ShadowReport::default()));
        self.swaps.note_shadow(id, Arc::clone(&report));
        let tried = Tried {
            id,
            candidate: Arc::new(StageNow {
                options: Arc::new(options),
                record,
                generation: 0,
                migrates_from,
            }),
            control,
            length,
            report,
        };
        let sender = self.sender.clone();
        let started = Shadow::start(
            tried,
            Arc::clone(&self.factory),
            View::of_running(Arc::clone(&self.figures.db), Arc::clone(&self.logs)),
            Arc::clone(&self.clock),
            self.io.clone(),
            move |ended| _ = sender.send(Mail::ShadowEnded(id, ended)),
        );
        match started {
            Ok(shadow) => {
                let before = self.shadows.insert(at, shadow);
                self.put_away(before);
                self.swaps
                    .change(id, |swap| swap.state = SwapState::of_watched(swap.mode));
                tracing::info!(swap = id, "new code is tried beside the code that runs");
            }
            Err(error) => {
                let why = format!("no thread can be started: {error}");
                self.end_shadow(id, SwapState::Refused, &why);
            }
        }
    }

    /// What is tried is not wanted any more. It may be in a call, for which nobody waits before the job ends.
    fn put_away(&mut self, shadow: Option<Shadow>) {
        self.unwanted.retain(Shadow::is_running);
        if let Some(shadow) = shadow {
            shadow.stop();
            self.unwanted.push(shadow);
        }
    }

    /// A shadow has come to its end.
    pub(in crate::coordinator) fn note_shadow_ended(&mut self, id: u64, ended: Result<(), String>) {
        if self.swaps.get(id).is_none_or(|swap| swap.state.is_over()) {
            // Somebody has ended it.
            let ended = self.shadows.extract_if(.., |_, shadow| shadow.id == id);
            let ended = ended.map(|(_, shadow)| shadow).next();
            return self.put_away(ended);
        }
        match ended {
            Err(why) => self.end_shadow(id, SwapState::Dropped, &why),
            Ok(()) => {
                let report = self.swaps.shadow(id).unwrap_or_default();
                self.end_shadow(id, SwapState::Done, &report.sentence());
            }
        }
    }

    fn end_shadow(&mut self, id: u64, state: SwapState, reason: &str) {
        self.swaps.change(id, |swap| {
            swap.state = state;
            reason.clone_into(&mut swap.reason);
        });
        tracing::info!(swap = id, "the shadow is over: {reason}");
    }

    /// Other code takes over in a stage: what is tried there is compared with nothing any more.
    pub(super) fn outdate_shadow(&mut self, at: usize) {
        let Some(shadow) = self.shadows.get(&at) else {
            return;
        };
        let id = shadow.id;
        shadow.stop();
        match self.is_tried(shadow) {
            true => self.end_shadow(id, SwapState::Dropped, "other code has taken over"),
            false => {
                let before = self.shadows.remove(&at);
                self.put_away(before);
            }
        }
    }

    /// A person does not want what is tried.
    pub(in crate::coordinator) fn drop_shadow(&mut self, stage: &str) -> Result<u64, String> {
        let at = self.place_of_name(stage)?;
        let shadow = self.shadows.get(&at);
        let Some(shadow) = shadow.filter(|_| self.request_of_shadow(at).is_some()) else {
            return Err(format!("stage {stage:?} tries no code"));
        };
        let id = shadow.id;
        shadow.stop();
        match self.is_tried(shadow) {
            true => {
                let report = self.swaps.shadow(id).unwrap_or_default();
                let reason = format!("{ASKED_FOR}: {}", report.sentence());
                self.end_shadow(id, SwapState::Dropped, &reason);
            }
            false => {
                let before = self.shadows.remove(&at);
                self.put_away(before);
            }
        }
        Ok(id)
    }

    /// The swap to what is tried in a stage, or was to its end.
    pub(super) fn request_of_shadow(&self, at: usize) -> Option<SwapRequest> {
        let shadow = self.shadows.get(&at)?;
        let state = self.swaps.get(shadow.id)?.state;
        let candidate = &shadow.candidate;
        let can_be_wanted = matches!(state, SwapState::Probation | SwapState::Done);
        can_be_wanted.then(|| SwapRequest {
            stage: candidate.options.name.clone(),
            component: Wanted::Bytes(candidate.options.component.bytes().to_vec()),
            label: candidate.record.code.label.clone(),
            // Whoever has seen what it does wants it.
            force: true,
            ..SwapRequest::default()
        })
    }
}

/// Why what code does cannot be kept from the world, if it cannot.
fn reaches_outside(options: &StageOptions) -> Option<&'static str> {
    let grants = options.component.grants();
    if grants.directories.iter().any(|directory| directory.write) {
        Some(
            "it may write into a folder (`directories` in [stage.capabilities]), so it cannot be tried without effect",
        )
    } else if !grants.network.is_empty() {
        Some(
            "it may use the network (`network` in [stage.capabilities]), so it cannot be tried without effect",
        )
    } else {
        None
    }
}
