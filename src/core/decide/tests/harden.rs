//! What is missing, and what is planned when a person asks for it.

use super::{seen, short};
use crate::{
    decide::{View, harden, upkeep},
    fixture::*,
    model::{Actor, Setting, StepKind, Term},
    state::{Command, Planned, Reply},
};

fn moves(view: &View) -> Vec<String> {
    let (cluster, seen) = super::parts(view);
    short(&upkeep::next(view, cluster, seen, Term(TERM)))
}

/// A healthy cluster whose primary flushes lazily and does not wait.
fn lax(group: &Group) -> View {
    let mut view = view(group, healthy());
    let mut facts = primary_facts(1, run(1, 9));
    facts.sync_binlog = 0;
    facts.semi_sync.get_or_insert_default().source_enabled = false;
    seen(&mut view).observations.insert(name(1), look(1, facts));
    view
}

fn plans(view: &View) -> Vec<Planned> {
    let (cluster, _) = super::parts(view);
    let list = harden::list(view, &"app1".into());
    list.iter().filter_map(|each| each.plan(cluster, &ann())).collect()
}

#[test]
fn settings_are_planned_first_and_waiting_for_acknowledgements_then() {
    let group = Group::adopted();
    let settings = StepKind::Harden { settings: [Setting::SyncBinlog].into(), by: ann() };
    assert_eq!(plans(&lax(&group)), [Planned { target: name(1), goal: settings }]);
    let mut view = lax(&group);
    let look = seen(&mut view).observations.get_mut(&name(1)).expect("it was looked at");
    look.seen.as_mut().expect("it was reached").sync_binlog = 1;
    let arm = StepKind::Arm { acks: 1, ackers: names(&[2, 3]), by: ann() };
    assert_eq!(plans(&view), [Planned { target: name(1), goal: arm }]);
    assert_eq!(plans(&crate::fixture::view(&group, healthy())), []);
}

#[test]
fn what_a_person_asked_for_is_run_and_what_the_group_planned_and_wants_no_more_is_not() {
    let mut group = Group::adopted();
    let (cluster, epoch) = ("app1".into(), group.cluster().epoch);
    let planned = plans(&lax(&group)).remove(0);
    assert_eq!(group.apply(Command::PlanChore { cluster, epoch, planned }), Reply::Ok);
    assert_eq!(moves(&lax(&group)), ["run harden db1"]);
    assert_eq!(plans(&lax(&group)), [], "it is under way");
    let step = group.cluster().chores[&name(1)].id;
    for _ in 0..harden::RUNS {
        assert_eq!(group.begin(step), Reply::Ok);
        assert_eq!(group.end(step, failed()), Reply::Ok);
    }
    assert_eq!(moves(&lax(&group)), [""; 0], "it is not tried for ever");
    assert_eq!(plans(&lax(&group)).len(), 1, "it may be asked for again");
    let goal = StepKind::Arm { acks: 0, ackers: names(&[2, 3]), by: Actor::Group };
    let planned = Planned { target: name(1), goal };
    let cluster = "app1".into();
    assert_eq!(group.apply(Command::PlanChore { cluster, epoch, planned }), Reply::Ok);
    assert_eq!(moves(&view(&group, healthy())), [""; 0]);
}
