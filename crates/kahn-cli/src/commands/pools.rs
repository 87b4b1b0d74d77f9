//! `kahn pools`: lists the pools of workers.

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::render::pool;

pub(crate) async fn run(context: &Context) -> Result<Exit, Failure> {
    let pools = context.client().await?.list_pools().await?;
    match context.is_json() {
        true => output::json_lines(pools.iter().map(pool::pool_json))?,
        false => output::text(&pool::pools(&pools))?,
    }
    Ok(Exit::Success)
}
