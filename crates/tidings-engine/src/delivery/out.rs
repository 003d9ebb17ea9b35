//! A destination as the dispatcher has it.

use super::destination::{Destination, Policy};
use super::mark::Mark;
use super::runner::Runner;
use super::settled::Settled;
use std::sync::Arc;
use tidings_model::{Epoch, Timestamp};

pub struct Out {
    pub destination: Arc<Destination>,
    pub work: Work,
    /// Errands of an earlier one are of no use.
    pub life: u64,
    /// It is going to be looked at.
    pub is_wanting: bool,
    /// When it will be looked at by itself.
    pub due_at: Option<Timestamp>,
    /// Its receiver has failed since it last answered well.
    pub is_failing: bool,
    /// Its order has changed: once nothing is under way it begins anew from its mark.
    is_outdated: bool,
    /// As they were counted last.
    pub waiting: usize,
    /// Dead deliveries since the start.
    pub dead: usize,
}

pub enum Work {
    /// Where it stands is being read.
    Restoring,
    Webhook(Box<Runner>),
    /// A webhook that is level with its topic: most are, most of the time.
    Resting {
        epoch: Epoch,
        floor: u64,
    },
    Copying {
        mark: Mark,
        has_news: bool,
        is_busy: bool,
    },
}

impl Out {
    pub fn new(destination: Arc<Destination>, life: u64) -> Self {
        Self {
            destination,
            work: Work::Restoring,
            life,
            is_wanting: false,
            due_at: None,
            is_failing: false,
            is_outdated: false,
            waiting: 0,
            dead: 0,
        }
    }

    /// Goes on under other settings.
    pub fn renew(&mut self, destination: Arc<Destination>, policy: Policy) {
        if let Work::Webhook(runner) = &mut self.work {
            let is_same = runner.policy().order == policy.order && runner.policy().on_dead == policy.on_dead;
            self.is_outdated |= !is_same || self.destination.filter != destination.filter;
            runner.set_policy(Policy {
                order: runner.policy().order,
                on_dead: runner.policy().on_dead,
                ..policy
            });
            runner.set_stopped(destination.is_paused() || self.is_outdated);
        }
        self.destination = destination;
    }

    /// Begins anew once nothing is under way, if it has to.
    pub fn turn(&mut self, policy: Policy) {
        if let Work::Webhook(runner) = &mut self.work
            && self.is_outdated
            && runner.is_quiet()
        {
            **runner = runner.anew(policy);
            runner.set_stopped(self.destination.is_paused());
            self.is_outdated = false;
        }
    }

    /// A webhook that is level needs no runner until there is news.
    pub fn rest(&mut self) {
        if let Work::Webhook(runner) = &self.work
            && !self.is_outdated
            && let Some((epoch, floor)) = runner.rests_at()
        {
            self.work = Work::Resting { epoch, floor };
        }
    }

    /// Ends a rest.
    pub fn wake(&mut self, policy: Policy, open_max: usize) {
        if let Work::Resting { epoch, floor } = self.work {
            let mut runner =
                Runner::new(self.destination.id, policy, rested(epoch, floor), Vec::new(), open_max);
            runner.set_stopped(self.destination.is_paused());
            self.work = Work::Webhook(Box::new(runner));
        }
    }

    /// How far it has come, if that is the dispatcher's to put down.
    pub fn mark(&self) -> Option<Mark> {
        match &self.work {
            Work::Webhook(runner) => Some(runner.mark()),
            Work::Resting { epoch, floor } => Some(rested(*epoch, *floor)),
            Work::Restoring | Work::Copying { .. } => None,
        }
    }

    /// Attempts and the like under way.
    pub fn flying(&self) -> usize {
        match &self.work {
            Work::Webhook(runner) => runner.flying(),
            _ => 0,
        }
    }
}

fn rested(epoch: Epoch, floor: u64) -> Mark {
    Mark { settled: Settled::up_to(floor), ..Mark::at(epoch) }
}
