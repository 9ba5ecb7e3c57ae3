//! Requests to the node that coordinates a group, whichever that is.
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{FindCoordinatorRequest, OffsetFetchRequest};

use crate::client::core::{Core, Target};
use crate::error::{Error, Result};
use crate::network::call::Purpose;
use crate::network::link::now;
use crate::protocol::error_code::ErrorCode;
use crate::protocol::request::Request;
use crate::state::group::{OffsetFetchPlan, Place, coordinator_of, fetched, find_coordinator};
use crate::topic_partition::TopicPartition;

impl Core {
    /// Asks the coordinator of the group until `judge` finds the answer good, or its error final, or the limit is over.
    ///
    /// Cancel safe: what was asked for may happen all the same.
    pub(crate) async fn ask_coordinator<R: Request, T>(
        &self,
        group: &Arc<str>,
        limit: Duration,
        build: impl Fn(i16) -> R + Clone + Send + 'static,
        judge: impl Fn(R::Response) -> Result<T>,
    ) -> Result<T> {
        let until = now() + limit;
        let mut failures = 0;
        loop {
            let outcome = match self.coordinator(group).await {
                Ok(node) => {
                    let answer = self.call(Target::Node(node), Purpose::Rest, build.clone()).await;
                    answer.and_then(&judge).map_err(|error| error.in_api(R::NAME))
                }
                Err(error) => Err(error),
            };
            match outcome {
                Err(error) if error.is_retriable() => {
                    failures += 1;
                    if !self.pause(failures, until).await {
                        return Err(error);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    async fn coordinator(&self, group: &Arc<str>) -> Result<i32> {
        let asked = group.clone();
        let build = move |version| find_coordinator(&asked, version);
        let answer = self.call::<FindCoordinatorRequest>(Target::Any, Purpose::Rest, build).await?;
        coordinator_of(group, &answer)
    }

    /// Waits before the next try; false: there is no time for one.
    async fn pause(&self, failures: u32, until: Instant) -> bool {
        let next = now() + self.config().retry_backoff.after(failures, &mut rand::rng());
        if next >= until || self.is_closed() {
            return false;
        }
        tokio::time::sleep_until(next.into()).await;
        true
    }

    /// Where the group stands in these partitions, or in all that it has committed.
    ///
    /// Cancel safe: it only looks.
    pub(crate) async fn group_offsets(
        &self,
        group: &Arc<str>,
        partitions: Option<Vec<TopicPartition>>,
        limit: Duration,
    ) -> Result<Vec<(TopicPartition, Option<Place>)>> {
        let plan = OffsetFetchPlan { group: group.clone(), partitions };
        let build = move |version| plan.request(version);
        let refused = |code| Error::broker(code, "the committed offsets cannot be read");
        self.ask_coordinator::<OffsetFetchRequest, _>(group, limit, build, |answer| {
            let entries = match fetched(group, &answer) {
                Err(ErrorCode::GROUP_ID_NOT_FOUND) => return Ok(Vec::new()),
                entries => entries.map_err(refused)?,
            };
            let found = entries.into_iter().map(|(name, found)| match found {
                Ok(place) => Ok((name, place)),
                Err(code) => Err(refused(code).on_partition(name.shared_topic().clone(), name.partition())),
            });
            found.collect()
        })
        .await
    }
}
