use berth_wire::{About, AboutReq};

use crate::app::Ctx;
use crate::error::AppError;

pub(crate) async fn about(cx: Ctx, _request: AboutReq) -> Result<About, AppError> {
    Ok(About { version: env!("CARGO_PKG_VERSION").to_owned(), wire: berth_wire::wire_digest(), host: cx.app.host })
}
