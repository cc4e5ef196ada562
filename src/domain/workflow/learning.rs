//! What a run keeps of the ends of its steps and of what they saw. It moves no cursor and judges no event.

use jiff::Timestamp;
use keyfall_sdk::Strategy;

use super::event::{Death, Observation, StepOutput};
use super::run::Run;
use super::steps::Step;

impl Run {
    pub(super) fn keep(&mut self, step: Step, output: &StepOutput, at: Timestamp) {
        match output {
            StepOutput::Issued { issued } => {
                self.issued = Some(issued.clone());
                if self.plan.strategy == Strategy::InPlace {
                    self.mark_revoked(at);
                }
            }
            StepOutput::NeverIssued => self.never_issued = true,
            StepOutput::SessionsEnded { ended } => self.sessions_ended = Some(*ended),
            StepOutput::Stripped { grants } => self.stripped.clone_from(grants),
            StepOutput::Revoked { .. } if step == Step::RevokeOld => self.mark_revoked(at),
            StepOutput::Revoked { .. } => self.mark_new_revoked(at),
            StepOutput::Proofs { deaths } => {
                self.deaths.extend(deaths.clone());
                // Nothing is buried alive: the identity stays open for another run.
                if deaths.values().any(|death| matches!(death, Death::Alive { .. })) {
                    self.steps.retain(|step| *step != Step::Tombstone);
                }
            }
            StepOutput::Read { reading } => self.after = Some(reading.clone()),
            StepOutput::Delivered { .. } if step == Step::Deliver => self.delivered = true,
            StepOutput::Delivered { .. } | StepOutput::Adopted { .. } | StepOutput::Nothing => {}
        }
        if step == Step::Promote {
            self.promoted_at = Some(at);
        }
    }

    pub(super) fn mark_revoked(&mut self, at: Timestamp) {
        for old in &self.plan.old {
            self.progress.entry(old.id).or_default().revoked_at.get_or_insert(at);
        }
    }

    pub(super) fn mark_new_revoked(&mut self, at: Timestamp) {
        if let Some(new) = &self.plan.new {
            self.progress.entry(new.id).or_default().revoked_at.get_or_insert(at);
        }
    }

    pub(super) fn observe(&mut self, observation: &Observation, at: Timestamp) {
        match observation {
            Observation::Before { reading } => self.before = Some(reading.clone()),
            Observation::Tried {
                credential,
                vantage,
                reading,
            } => {
                if reading.verdict.is_refused() {
                    self.refused.push((*credential, at));
                }
                if reading.verdict.is_accepted() {
                    let progress = self.progress.entry(*credential).or_default();
                    if progress.revoked_at.is_none() {
                        progress.baseline.insert(vantage.clone(), at);
                    }
                }
            }
            Observation::ProbeRound { credential, round } => {
                self.progress.entry(*credential).or_default().rounds.push(round.clone());
            }
            Observation::IssueFound { issued } => self.issued = Some(issued.clone()),
            Observation::IssueMissing
            | Observation::IssueUnseen
            | Observation::IssueRefused { .. }
            | Observation::TwinFound { .. }
            | Observation::TwinGone { .. }
            | Observation::SecretLost { .. }
            | Observation::ConsumerSeen { .. }
            | Observation::ConsumerAwaited { .. }
            | Observation::Note { .. } => {}
        }
    }
}
