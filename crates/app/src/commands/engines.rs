use berth_wire::{Done, EngineDetail, EngineReq, OperationDismissReq, OperationPhase, OperationStarted};

use crate::app::Ctx;
use crate::engines;
use crate::error::AppError;

pub(crate) async fn engine_start(cx: Ctx, request: EngineReq) -> Result<OperationStarted, AppError> {
    let engine = cx.app.engines.get(&request.engine)?;
    engines::start_bundled(&cx.app, &engine)
}

pub(crate) async fn engine_stop(cx: Ctx, request: EngineReq) -> Result<OperationStarted, AppError> {
    let engine = cx.app.engines.get(&request.engine)?;
    engines::stop_bundled(&cx.app, &engine)
}

pub(crate) async fn engine_give_back(cx: Ctx, request: EngineReq) -> Result<OperationStarted, AppError> {
    let engine = cx.app.engines.get(&request.engine)?;
    engines::give_back_bundled(&cx.app, &engine)
}

pub(crate) async fn engine_inspect(cx: Ctx, request: EngineReq) -> Result<EngineDetail, AppError> {
    let engine = cx.app.engines.get(&request.engine)?;
    Ok(engines::inspect(&engine).await)
}

pub(crate) async fn operation_dismiss(cx: Ctx, request: OperationDismissReq) -> Result<Done, AppError> {
    let id = request.operation;
    let operation = cx.app.world.operation(id).ok_or(AppError::Gone { what: "The operation" })?;
    if operation.phase == OperationPhase::Running {
        return Err(AppError::Invalid { reason: "an operation that runs cannot be dismissed".to_owned() });
    }
    cx.app.world.edit(|edit| edit.remove_operation(id));
    Ok(Done {})
}
