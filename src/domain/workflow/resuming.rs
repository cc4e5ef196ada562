//! What a person may declare done, and what nobody may. A resume is a word behind a bearer token: it stands in for work that was done by hand and that
//! a proof or a reading looks at later, and never for an approval (P6).

use super::super::actor::Actor;
use super::run::Run;
use super::steps::Step;

impl Run {
    /// Some person can declare the step under the cursor done, if perhaps not this one or that.
    #[must_use]
    pub fn may_be_resumed(&self) -> bool {
        match self.step() {
            // Whose the account is and what lies on it, and that the new credential is one: everything behind stands on that.
            None | Some(Step::Precheck | Step::IssueNew | Step::Promote) => false,
            Some(Step::ProveNew) => self.is_past_pivot(),
            Some(Step::AwaitUptake) => !self.takes_from_consumers(),
            Some(_) => true,
        }
    }

    /// Why this person cannot declare the step under the cursor done, and what to do instead; `None` when they can.
    #[must_use]
    pub fn refusal_to_resume(&self, by: &Actor) -> Option<String> {
        match self.step()? {
            Step::AwaitUptake if !self.may_be_resumed() => Some(self.exception_needed()),
            _ if !self.may_be_resumed() => Some(self.done_by_nobody()),
            Step::AwaitUptake | Step::AwaitReturn | Step::Listen if !self.is_second_person(by) => {
                Some(self.second_person_needed())
            }
            _ => None,
        }
    }

    fn done_by_nobody(&self) -> String {
        let id = self.id();
        let or_cancel = if self.may_be_cancelled() {
            format!(", or take the run back with `keyfall cancel {id} --reason …`")
        } else {
            String::new()
        };
        format!(
            "nothing that is done by hand stands in for this step; remove the cause and run `keyfall retry {id} --reason …`{or_cancel}"
        )
    }

    /// Behind this step the old credential goes, and consumers that were not seen on the new one with it: only a signed plan allows that (P3).
    fn takes_from_consumers(&self) -> bool {
        let plan = self.plan();
        !plan.approval.solo && !plan.old.is_empty() && !self.is_past_pivot()
    }

    fn exception_needed(&self) -> String {
        let (id, name) = (self.id(), &self.plan().identity_name);
        format!(
            "the old credential is not taken from its consumers on one person's word; bring them to the new one and run `keyfall retry {id} --reason …`, or run `keyfall cancel {id} --reason …` and, when it is taken back, `keyfall rotate {name} --exception 'why they need not be waited for'`, which makes a plan that another person signs"
        )
    }

    /// Where the old credential is kept or gone already, and consumers are not waited for all the same.
    fn is_second_person(&self, by: &Actor) -> bool {
        let Some(person) = by.person() else { return false };
        let approval = &self.plan().approval;
        let first = self.asked_by.as_ref().and_then(Actor::person);
        // Who asked for a policy did not ask for the runs under it.
        let asked = !approval.standing && approval.requester == person;
        approval.solo || (!asked && first.is_some_and(|first| first != person))
    }

    fn second_person_needed(&self) -> String {
        let id = self.id();
        match &self.asked_by {
            Some(first) => format!(
                "going on without the consumers needs a person other than {}, who asked for this run, its cancelling or another try, and other than who asked for its plan, where it has one of its own; let that person run `keyfall resume {id} --reason …`, or see to the consumers and run `keyfall retry {id} --reason …`",
                first.label()
            ),
            None => format!(
                "going on without the consumers takes two people, and nobody has asked for this run yet: run `keyfall retry {id} --reason …`; when it stands here again, another person runs `keyfall resume {id} --reason …`"
            ),
        }
    }
}
