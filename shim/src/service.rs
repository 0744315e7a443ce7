//! containerd's Task service, v2 and v3 alike: each call finds its task, asks it, and shapes the answer.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest,
    PidsRequest, PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task as events;
use containerd_shim_protos::protobuf::MessageField;
use containerd_shim_protos::shim_async::Task as TaskService;
use containerd_shim_protos::ttrpc::r#async::TtrpcContext;
use containerd_shim_protos::ttrpc::{self, Result as TtrpcResult};

use crate::error::ShimError;
use crate::paths::Paths;
use crate::phase::Phase;
use crate::pod::{Pod, Wanted};
use crate::task::Task;
use crate::time;

/// Answers containerd for a pod.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Pod>);

/// Does what was asked to its end, also when whoever asked goes meanwhile: ttrpc drops what it waits for
/// with its connection.
async fn done<T: Send + 'static>(
    work: impl Future<Output = Result<T, ShimError>> + Send + 'static,
) -> TtrpcResult<T> {
    let failed = |error: tokio::task::JoinError| ShimError::Invalid(error.to_string());
    let done = tokio::spawn(work).await.map_err(failed).and_then(|done| done);
    Ok(done?)
}

impl Service {
    fn task(&self, id: &str) -> Result<Arc<Task>, ShimError> {
        self.0.find(id)
    }

    fn publish(&self, topic: &str, event: &dyn containerd_shim_protos::protobuf::MessageDyn) {
        self.0.publisher.publish(topic, event);
    }

    /// Tells of a container's end when it comes.
    fn watch(&self, task: Arc<Task>) {
        let service = self.clone();
        tokio::spawn(async move {
            let phase = task.ended().await;
            if task.is_out_of_memory() {
                let container_id = task.id().to_owned();
                let event = events::TaskOOM { container_id, ..Default::default() };
                service.publish("/tasks/oom", &event);
            }
            service.tell_exit(task.id(), task.id(), (task.pid(), phase));
        });
    }

    fn tell_exit(&self, container: &str, id: &str, (pid, phase): (u32, Phase)) {
        let Phase::Stopped { code, at } = phase else { return };
        let event = events::TaskExit {
            container_id: container.to_owned(),
            id: id.to_owned(),
            pid,
            exit_status: u32::from(code),
            exited_at: time::at(at),
            ..Default::default()
        };
        self.publish("/tasks/exit", &event);
    }

    async fn start_exec(&self, task: &Arc<Task>, id: &str) -> Result<u32, ShimError> {
        let exec = task.exec(id)?;
        task.start_exec(&exec).await?;
        let (container, id, pid) = (task.id().to_owned(), id.to_owned(), exec.pid());
        let event = events::TaskExecStarted {
            container_id: container.clone(),
            exec_id: id.clone(),
            pid,
            ..Default::default()
        };
        self.publish("/tasks/exec-started", &event);
        let service = self.clone();
        tokio::spawn(async move {
            let phase = exec.wait().await;
            service.tell_exit(&container, &id, (pid, phase));
        });
        Ok(pid)
    }

    async fn start_task(&self, task: Arc<Task>) -> Result<u32, ShimError> {
        task.start().await?;
        let pid = task.pid();
        let event =
            events::TaskStart { container_id: task.id().to_owned(), pid, ..Default::default() };
        self.publish("/tasks/start", &event);
        self.watch(task);
        Ok(pid)
    }

    async fn delete_task(&self, task: &Task) -> Result<DeleteResponse, ShimError> {
        task.quiet().await;
        let (code, at) = match task.phase() {
            Phase::Stopped { code, at } => (code, at),
            Phase::Created => (0, None),
            Phase::Running | Phase::Paused => {
                return Err(ShimError::Precondition(format!("{} is not stopped", task.id())));
            }
        };
        if let Phase::Stopped { .. } = task.phase() {
            task.ended().await;
            task.execs_ended().await;
        }
        let pid = task.pid();
        task.remove().await?;
        self.0.forget(task.id());
        let event = events::TaskDelete {
            container_id: task.id().to_owned(),
            pid,
            exit_status: u32::from(code),
            exited_at: time::at(at),
            ..Default::default()
        };
        self.publish("/tasks/delete", &event);
        Ok(deleted(pid, code, at))
    }

    async fn create_task(
        &self,
        request: CreateTaskRequest,
    ) -> Result<CreateTaskResponse, ShimError> {
        let paths = Paths {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
            container: request.id.clone(),
            namespace: self.0.publisher.namespace().to_owned(),
            network: self.0.network.clone(),
        };
        let wanted = Wanted {
            id: &request.id,
            bundle: Path::new(&request.bundle),
            root: &request.rootfs,
            paths,
            options: request.options.as_ref(),
        };
        let task = self.0.create(wanted).await?;
        let io = events::TaskIO {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
            ..Default::default()
        };
        let event = events::TaskCreate {
            container_id: request.id,
            bundle: request.bundle,
            rootfs: request.rootfs,
            io: MessageField::some(io),
            pid: task.pid(),
            ..Default::default()
        };
        self.publish("/tasks/create", &event);
        Ok(CreateTaskResponse { pid: task.pid(), ..CreateTaskResponse::default() })
    }

    async fn delete_any(&self, request: DeleteRequest) -> Result<DeleteResponse, ShimError> {
        let task = self.task(&request.id).inspect_err(|_| self.0.doom(&request.id))?;
        if request.exec_id.is_empty() {
            return self.delete_task(&task).await;
        }
        let exec = task.exec(&request.exec_id)?;
        match exec.phase() {
            Phase::Running | Phase::Paused => {
                let why = format!("exec {} is not stopped", request.exec_id);
                Err(ShimError::Precondition(why))
            }
            Phase::Created => {
                task.forget_exec(&request.exec_id);
                Ok(deleted(0, 0, None))
            }
            Phase::Stopped { code, at } => {
                task.forget_exec(&request.exec_id);
                Ok(deleted(exec.pid(), code, at))
            }
        }
    }
}

fn deleted(pid: u32, code: u8, at: Option<mote_lifecycle::Time>) -> DeleteResponse {
    DeleteResponse {
        pid,
        exit_status: u32::from(code),
        exited_at: time::at(at),
        ..DeleteResponse::default()
    }
}

fn waited(phase: Phase) -> WaitResponse {
    let (code, at) = match phase {
        Phase::Stopped { code, at } => (code, at),
        Phase::Created | Phase::Running | Phase::Paused => (0, None),
    };
    WaitResponse {
        exit_status: u32::from(code),
        exited_at: time::at(at),
        ..WaitResponse::default()
    }
}

fn state(task: &Task, paths: &Paths, (pid, phase): (u32, Phase)) -> StateResponse {
    let (code, at) = match phase {
        Phase::Stopped { code, at } => (code, at),
        Phase::Created | Phase::Running | Phase::Paused => (0, None),
    };
    StateResponse {
        id: task.id().to_owned(),
        bundle: task.bundle().display().to_string(),
        pid,
        status: phase.status().into(),
        stdin: paths.stdin.clone(),
        stdout: paths.stdout.clone(),
        stderr: paths.stderr.clone(),
        terminal: paths.terminal,
        exit_status: u32::from(code),
        exited_at: time::at(at),
        ..StateResponse::default()
    }
}

#[async_trait]
impl TaskService for Service {
    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> TtrpcResult<StateResponse> {
        let task = self.task(&request.id)?;
        if request.exec_id.is_empty() {
            return Ok(state(&task, task.paths(), (task.pid(), task.phase())));
        }
        let exec = task.exec(&request.exec_id)?;
        let mut response = state(&task, exec.paths(), (exec.pid(), exec.phase()));
        // As containerd's own shim has it.
        response.id.clone_from(&request.exec_id);
        response.exec_id = request.exec_id;
        Ok(response)
    }

    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> TtrpcResult<CreateTaskResponse> {
        let service = self.clone();
        done(async move { service.create_task(request).await }).await
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> TtrpcResult<StartResponse> {
        let (service, task) = (self.clone(), self.task(&request.id)?);
        let pid = done(async move {
            let _under_way = task.under_way();
            match request.exec_id.as_str() {
                "" => service.start_task(task).await,
                exec => service.start_exec(&task, exec).await,
            }
        })
        .await?;
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: DeleteRequest,
    ) -> TtrpcResult<DeleteResponse> {
        let service = self.clone();
        done(async move { service.delete_any(request).await }).await
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> TtrpcResult<PidsResponse> {
        let pids = self.task(&request.id)?.pids().await?;
        let one = |pid| ProcessInfo { pid, ..ProcessInfo::default() };
        let processes = pids.into_iter().map(one).collect();
        Ok(PidsResponse { processes, ..PidsResponse::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        done(async move {
            let _under_way = task.under_way();
            task.pause().await
        })
        .await?;
        let event = events::TaskPaused { container_id: request.id, ..Default::default() };
        self.publish("/tasks/paused", &event);
        Ok(Empty::default())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        done(async move {
            let _under_way = task.under_way();
            task.resume().await
        })
        .await?;
        let event = events::TaskResumed { container_id: request.id, ..Default::default() };
        self.publish("/tasks/resumed", &event);
        Ok(Empty::default())
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id).inspect_err(|_| self.0.doom(&request.id))?;
        if request.exec_id.is_empty() {
            let service = self.clone();
            done(async move {
                let _under_way = task.under_way();
                if task.kill(request.signal, request.all).await? {
                    service.tell_exit(task.id(), task.id(), (task.pid(), task.phase()));
                }
                Ok(())
            })
            .await?;
            return Ok(Empty::default());
        }
        let exec = task.exec(&request.exec_id)?;
        if matches!(exec.phase(), Phase::Stopped { .. }) {
            let why = format!("process of exec {} already finished", request.exec_id);
            return Err(ShimError::NotFound(why).into());
        }
        exec.kill(request.signal)?;
        Ok(Empty::default())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        let paths = Paths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
            container: request.id.clone(),
            namespace: self.0.publisher.namespace().to_owned(),
            network: self.0.network.clone(),
        };
        let (id, spec) = (request.exec_id.clone(), request.spec.into_option());
        done(async move {
            let spec = spec.map(|any| any.value);
            task.add_exec(&id, spec.as_deref().unwrap_or(b"{}"), paths).await
        })
        .await?;
        let event = events::TaskExecAdded {
            container_id: request.id,
            exec_id: request.exec_id,
            ..Default::default()
        };
        self.publish("/tasks/exec-added", &event);
        Ok(Empty::default())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        let ResizePtyRequest { exec_id, width, height, .. } = request;
        match exec_id.as_str() {
            "" => task.resize(width, height)?,
            exec => task.exec(exec)?.resize(width, height)?,
        }
        Ok(Empty::default())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        match (request.stdin, request.exec_id.as_str()) {
            (false, _) => {}
            (true, "") => task.close_input(),
            (true, exec) => task.exec(exec)?.close_input(),
        }
        Ok(Empty::default())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        done(async move {
            let _under_way = task.under_way();
            let resources = request.resources.as_ref().map(|any| any.value.as_slice());
            task.update(resources.unwrap_or(b"{}")).await
        })
        .await?;
        Ok(Empty::default())
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> TtrpcResult<WaitResponse> {
        let task = self.task(&request.id)?;
        if !request.exec_id.is_empty() {
            return Ok(waited(task.exec(&request.exec_id)?.wait().await));
        }
        Ok(waited(task.ended().await))
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> TtrpcResult<StatsResponse> {
        let stats = self.task(&request.id)?.stats(self.0.hierarchy);
        Ok(StatsResponse { stats: MessageField::some(stats), ..StatsResponse::default() })
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: ConnectRequest,
    ) -> TtrpcResult<ConnectResponse> {
        // containerd asks this also about a task that was never made.
        let task_pid = self.task(&request.id).map_or(0, |task| task.pid());
        let shim_pid = std::process::id();
        Ok(ConnectResponse { shim_pid, task_pid, ..ConnectResponse::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> TtrpcResult<Empty> {
        // The other containers of the pod still need it.
        if self.0.is_empty() {
            self.0.over.notify_one();
        }
        Ok(Empty::default())
    }

    async fn checkpoint(
        &self,
        _: &TtrpcContext,
        _: containerd_shim_protos::api::CheckpointTaskRequest,
    ) -> TtrpcResult<Empty> {
        Err(ShimError::Unimplemented("a Wasm guest cannot be checkpointed").into())
    }
}

/// Both versions of the service, which differ in their name alone.
pub(crate) fn services(
    service: &Service,
) -> std::collections::HashMap<String, ttrpc::r#async::Service> {
    use containerd_shim_protos::shim_async::create_task;
    let made = || create_task(Arc::new(service.clone()));
    let old = made().into_iter().map(|(name, service)| (name.replace(".v3.", ".v2."), service));
    made().into_iter().chain(old).collect()
}
