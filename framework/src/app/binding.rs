//! Gets routes, gives the routers that lead records to them.

use crate::Error;
use crate::consumer::assignment::Routers;
use crate::dedupe::Dedupe;
use crate::extract::Context;
use crate::failure::dead_letter::{DeadLetters, RouteLetters};
use crate::handler::Settings;
use crate::kafka::pattern::{Letters, matches};
use crate::middleware::Layer;
use crate::middleware::bound::Bound;
use crate::publish::Publishing;
use crate::routing::bound_route::Handle;
use crate::routing::order::{CONCURRENCY, Turns};
use crate::routing::route::{AnyRoute, Routes};
use crate::routing::router::{EventRoute, Policies, Router};
use crate::telemetry::left_out::LeftOut;
use crate::telemetry::metrics::Counts;
use crate::telemetry::trace::Spans;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// A route at run time, and which records are its.
pub(crate) struct BoundRoute {
    settings: Settings,
    route: Arc<dyn Handle>,
}

/// What all routes of the application share.
pub(crate) struct Common {
    pub(crate) dedupe: Dedupe,
    pub(crate) context: Arc<Context>,
    pub(crate) letters: DeadLetters,
    pub(crate) publishing: Arc<Publishing>,
    pub(crate) spans: Spans,
}

pub(crate) async fn bind(
    routes: Routes,
    group: &Arc<str>,
    common: &Common,
    retired: &[String],
) -> Result<Vec<BoundRoute>, Error> {
    let scopes = scopes(&common.dedupe, group, &routes, retired).await?;
    let bind = |(route, scope): (Box<dyn AnyRoute>, i32)| {
        let settings = route.settings().clone();
        let letters = common.letters.to(settings.dead_letter.clone(), settings.rejected.clone());
        let (name, identity): (Arc<str>, _) = (settings.name.as_str().into(), settings.identity.clone());
        let publishing = Arc::new(common.publishing.of_handler(name.clone(), identity.clone()));
        let mut context = (*common.context).clone();
        context.set_publishing(publishing.clone());
        let bound = Bound {
            context: Arc::new(context),
            dedupe: common.dedupe.clone(),
            identity,
            scope,
            timeout: settings.timeout,
            group: group.clone(),
            name: name.clone(),
            failure: settings.failure.clone(),
            retries: route.layers().contains(&Layer::Retry),
            trials: Arc::default(),
            #[cfg(feature = "postgres")]
            savepoints: Default::default(),
            #[cfg(feature = "postgres")]
            alone: Default::default(),
            letters: (!settings.has_no_dead_letters()).then_some(letters),
            publishing,
            counts: Counts::new(group, &settings.name),
            left_out: Arc::new(LeftOut::of(name, common.dedupe.window())),
            spans: common.spans.of_handler(&settings.name),
        };
        BoundRoute { route: route.bind(bound), settings }
    };
    Ok(routes.into_iter().zip(scopes).map(bind).collect())
}

async fn scopes(
    dedupe: &Dedupe,
    group: &str,
    routes: &Routes,
    retired: &[String],
) -> Result<Vec<i32>, Error> {
    #[cfg(feature = "postgres")]
    if let Dedupe::Postgres(postgres) = dedupe {
        use crate::dedupe::scope::{ScopeName, resolve};
        let name = |settings: &Settings| ScopeName {
            handler: settings.name.clone(),
            formerly: settings.formerly.clone(),
            topics: settings.topics.clone(),
        };
        let names: Vec<_> = routes.iter().map(|route| name(route.settings())).collect();
        return resolve(postgres, group, &names, retired).await;
    }
    let _ = (group, retired);
    Ok(match dedupe {
        Dedupe::Memory(memory) => memory.scopes(routes.len()),
        _ => vec![0; routes.len()],
    })
}

/// How often a process may end while it tries one record, unless a handler says so.
const MAX_STARTS: u32 = 3;

pub(crate) struct RouterParts {
    pub(crate) group: Arc<str>,
    pub(crate) bound: Vec<BoundRoute>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) context: Arc<Context>,
    pub(crate) letters: RouteLetters,
    /// The topics that a pattern does not read.
    pub(crate) unread: Letters,
    pub(crate) stop: mpsc::UnboundedSender<Error>,
}

/// Finds a topic's router, and makes it when the topic is first seen.
pub(crate) fn routers(parts: RouterParts) -> Routers {
    let made: Mutex<HashMap<String, Option<Arc<Router>>>> = Mutex::default();
    Box::new(move |topic| {
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(topic.to_owned()).or_insert_with(|| parts.router(topic).map(Arc::new)).clone()
    })
}

impl RouterParts {
    fn router(&self, topic: &str) -> Option<Router> {
        let reads = |settings: &Settings| {
            let reads = |name: &&String| *name == topic || matches(name, topic) && !self.unread.has(topic);
            settings.topics.iter().find(reads).cloned()
        };
        let routes: Vec<(String, &BoundRoute)> =
            self.bound.iter().filter_map(|bound| Some((reads(&bound.settings)?, bound))).collect();
        let (name, _) = routes.first()?;
        let Policies { event_types, unmatched } = &*self.policies;
        let event_type = event_types.get(topic).or_else(|| event_types.get(name)).cloned();
        let unmatched = unmatched.get(topic).or_else(|| unmatched.get(name)).copied();
        let max_starts = routes.iter().map(|(_, bound)| bound.settings.max_starts.unwrap_or(MAX_STARTS));
        let max_run_records = routes.iter().filter_map(|(_, bound)| bound.settings.max_run_records).min();
        let route = |(_, bound): &(String, &BoundRoute)| EventRoute {
            event: bound.settings.event.clone(),
            tombstones: bound.settings.tombstones,
            route: bound.route.clone(),
        };
        let settings = &routes.first()?.1.settings;
        Some(Router {
            group: self.group.clone(),
            order: settings.order,
            guarantee: settings.guarantee,
            turns: Turns::new(settings.concurrency.unwrap_or(CONCURRENCY)),
            max_run_records,
            max_starts: max_starts.min().unwrap_or(MAX_STARTS),
            routes: routes.iter().map(route).collect(),
            event_type: event_type.unwrap_or_default(),
            context: self.context.clone(),
            unmatched: unmatched.unwrap_or_default(),
            letters: self.letters.clone(),
            stop: self.stop.clone(),
        })
    }
}
