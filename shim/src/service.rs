//! containerd's Task service, v2 and v3 alike: each call finds its task, asks it, and shapes the answer.

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
use mote_engine::machine_memory;
use mote_lifecycle::{Change, DriveError, Usage};
use mote_spec::{Ceiling, ExitStatus};

use crate::bundle;
use crate::error::ShimError;
use crate::metrics::metrics;
use crate::pod::{Pod, Wanted};
use crate::streams::Paths;
use crate::task::{Exec, Phase, Task};
use crate::time;

/// The signals that end a guest; it has no others.
const SIGKILL: u32 = 9;

/// Answers containerd for a pod.
#[derive(Clone)]
pub(crate) struct Service(pub(crate) Arc<Pod>);

/// The process that all tasks of the pod are in.
fn pid() -> u32 {
    std::process::id()
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
            let ended = task.container.wait(|record| !record.status().is_live()).await;
            let out_of_memory =
                ended.is_ok_and(|record| record.ending() == Some(ExitStatus::OutOfMemory));
            if out_of_memory {
                let event = events::TaskOOM { container_id: task.id.clone(), ..Default::default() };
                service.publish("/tasks/oom", &event);
            }
            service.tell_exit(&task.id, &task.id, task.phase());
        });
    }

    fn tell_exit(&self, container: &str, id: &str, phase: Phase) {
        let Phase::Stopped { code, at } = phase else { return };
        let event = events::TaskExit {
            container_id: container.to_owned(),
            id: id.to_owned(),
            pid: pid(),
            exit_status: u32::from(code),
            exited_at: time::at(at),
            ..Default::default()
        };
        self.publish("/tasks/exit", &event);
    }

    async fn start_exec(&self, task: &Arc<Task>, id: &str) -> Result<(), ShimError> {
        let exec = task.exec(id)?;
        task.start_exec(&exec).await?;
        let event = events::TaskExecStarted {
            container_id: task.id.clone(),
            exec_id: id.to_owned(),
            pid: pid(),
            ..Default::default()
        };
        self.publish("/tasks/exec-started", &event);
        let (service, container, id) = (self.clone(), task.id.clone(), id.to_owned());
        tokio::spawn(async move {
            let phase = exec.wait().await;
            service.tell_exit(&container, &id, phase);
        });
        Ok(())
    }

    async fn start_task(&self, task: Arc<Task>) -> Result<(), ShimError> {
        match task.phase() {
            Phase::Created => {}
            Phase::Running | Phase::Paused | Phase::Stopped { .. } => {
                return Err(ShimError::Precondition(format!("{} was started before", task.id)));
            }
        }
        match task.container.start().await {
            Ok(()) => {}
            Err(DriveError::Start(why)) => return Err(ShimError::Invalid(why)),
            Err(error) => return Err(error.into()),
        }
        let event =
            events::TaskStart { container_id: task.id.clone(), pid: pid(), ..Default::default() };
        self.publish("/tasks/start", &event);
        self.watch(task);
        Ok(())
    }

    async fn delete_task(&self, task: &Task) -> Result<DeleteResponse, ShimError> {
        let phase = task.phase();
        let (code, at) = match phase {
            Phase::Stopped { code, at } => (code, at),
            Phase::Created => (0, None),
            Phase::Running | Phase::Paused => {
                return Err(ShimError::Precondition(format!("{} is not stopped", task.id)));
            }
        };
        task.container.remove().await?;
        task.unmount();
        self.0.forget(&task.id);
        let event = events::TaskDelete {
            container_id: task.id.clone(),
            pid: pid(),
            exit_status: u32::from(code),
            exited_at: time::at(at),
            ..Default::default()
        };
        self.publish("/tasks/delete", &event);
        Ok(deleted(code, at))
    }

    async fn kill_task(&self, task: &Arc<Task>, how: ExitStatus) -> Result<(), ShimError> {
        if task.kill_unstarted() {
            self.tell_exit(&task.id, &task.id, task.phase());
            return Ok(());
        }
        if matches!(task.phase(), Phase::Stopped { .. }) {
            return Err(ShimError::NotFound(format!("process of {} already finished", task.id)));
        }
        match how {
            ExitStatus::Killed => task.container.kill().await?,
            _ => task.container.stop().await?,
        }
        Ok(())
    }

    async fn update_task(&self, request: &UpdateTaskRequest) -> Result<(), ShimError> {
        let task = self.task(&request.id)?;
        let resources = request.resources.as_ref().map(|any| any.value.as_slice());
        let resources: oci_spec::runtime::LinuxResources =
            serde_json::from_slice(resources.unwrap_or(b"{}"))
                .map_err(|source| ShimError::Json { what: "the resources", source })?;
        let ceiling = Ceiling::of_machine(machine_memory());
        let record = task.container.record();
        let policy = record.policy.updated(bundle::limits(&resources)?, &ceiling);
        let policy = policy.map_err(|error| ShimError::Invalid(error.to_string()))?;
        task.container.update(Change { policy: Some(policy), ..Change::default() }).await?;
        Ok(())
    }
}

fn deleted(code: u8, at: Option<mote_lifecycle::Time>) -> DeleteResponse {
    DeleteResponse {
        pid: pid(),
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

fn state(id: &str, bundle: &Path, paths: &Paths, phase: Phase) -> StateResponse {
    let (code, at) = match phase {
        Phase::Stopped { code, at } => (code, at),
        Phase::Created | Phase::Running | Phase::Paused => (0, None),
    };
    StateResponse {
        id: id.to_owned(),
        bundle: bundle.display().to_string(),
        pid: pid(),
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
            return Ok(state(&task.id, &task.bundle, &task.paths, task.phase()));
        }
        let exec = task.exec(&request.exec_id)?;
        let mut response = state(&task.id, &task.bundle, &exec.paths, exec.phase());
        response.exec_id = request.exec_id;
        Ok(response)
    }

    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> TtrpcResult<CreateTaskResponse> {
        let paths = Paths {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let wanted = Wanted {
            id: &request.id,
            bundle: Path::new(&request.bundle),
            root: &request.rootfs,
            paths,
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
            container_id: task.id.clone(),
            bundle: request.bundle,
            rootfs: request.rootfs.into_iter().map(mounted).collect(),
            io: MessageField::some(io),
            pid: pid(),
            ..Default::default()
        };
        self.publish("/tasks/create", &event);
        Ok(CreateTaskResponse { pid: pid(), ..CreateTaskResponse::default() })
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> TtrpcResult<StartResponse> {
        let task = self.task(&request.id)?;
        match request.exec_id.as_str() {
            "" => self.start_task(task).await?,
            exec => self.start_exec(&task, exec).await?,
        }
        Ok(StartResponse { pid: pid(), ..StartResponse::default() })
    }

    async fn delete(
        &self,
        _: &TtrpcContext,
        request: DeleteRequest,
    ) -> TtrpcResult<DeleteResponse> {
        let task = self.task(&request.id)?;
        if request.exec_id.is_empty() {
            return Ok(self.delete_task(&task).await?);
        }
        let exec = task.exec(&request.exec_id)?;
        match exec.phase() {
            Phase::Running | Phase::Paused => {
                let why = format!("exec {} is not stopped", request.exec_id);
                Err(ShimError::Precondition(why).into())
            }
            Phase::Created => {
                task.forget_exec(&request.exec_id);
                Ok(deleted(0, None))
            }
            Phase::Stopped { code, at } => {
                task.forget_exec(&request.exec_id);
                Ok(deleted(code, at))
            }
        }
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> TtrpcResult<PidsResponse> {
        self.task(&request.id)?;
        let one = ProcessInfo { pid: pid(), ..ProcessInfo::default() };
        Ok(PidsResponse { processes: vec![one], ..PidsResponse::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        task.container.pause().await.map_err(ShimError::from)?;
        let event = events::TaskPaused { container_id: task.id.clone(), ..Default::default() };
        self.publish("/tasks/paused", &event);
        Ok(Empty::default())
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        task.container.unpause().await.map_err(ShimError::from)?;
        let event = events::TaskResumed { container_id: task.id.clone(), ..Default::default() };
        self.publish("/tasks/resumed", &event);
        Ok(Empty::default())
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        // A guest has no signals: each ends it.
        let how = match request.signal {
            SIGKILL => ExitStatus::Killed,
            _ => ExitStatus::Stopped,
        };
        if request.exec_id.is_empty() {
            self.kill_task(&task, how).await?;
        } else {
            let exec: Arc<Exec> = task.exec(&request.exec_id)?;
            if matches!(exec.phase(), Phase::Stopped { .. }) {
                let why = format!("process of exec {} already finished", request.exec_id);
                return Err(ShimError::NotFound(why).into());
            }
            exec.end(how);
        }
        Ok(Empty::default())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        let spec = request.spec.as_ref().map(|any| any.value.as_slice());
        let process: oci_spec::runtime::Process = serde_json::from_slice(spec.unwrap_or(b"{}"))
            .map_err(|source| ShimError::Json { what: "the process to run", source })?;
        let paths = Paths {
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr,
            terminal: request.terminal,
        };
        task.add_exec(&request.exec_id, &process, paths)?;
        let event = events::TaskExecAdded {
            container_id: task.id.clone(),
            exec_id: request.exec_id,
            ..Default::default()
        };
        self.publish("/tasks/exec-added", &event);
        Ok(Empty::default())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> TtrpcResult<Empty> {
        // A guest is not told of a terminal's size: WASI has no word for it.
        self.task(&request.id)?;
        Ok(Empty::default())
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> TtrpcResult<Empty> {
        let task = self.task(&request.id)?;
        match (request.stdin, request.exec_id.as_str()) {
            (false, _) => {}
            (true, "") => task.end_of_input.tell(),
            (true, exec) => task.exec(exec)?.end_of_input.tell(),
        }
        Ok(Empty::default())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> TtrpcResult<Empty> {
        self.update_task(&request).await?;
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
        let task = self.task(&request.id)?;
        let usage = Usage::from(&*task.container.gauge());
        let stats = metrics(self.0.hierarchy, &task.container.record(), &usage);
        Ok(StatsResponse { stats: MessageField::some(stats), ..StatsResponse::default() })
    }

    async fn connect(
        &self,
        _: &TtrpcContext,
        request: ConnectRequest,
    ) -> TtrpcResult<ConnectResponse> {
        // containerd asks this also about a task that was never made.
        let task_pid = self.task(&request.id).map_or(0, |_| pid());
        Ok(ConnectResponse { shim_pid: pid(), task_pid, ..ConnectResponse::default() })
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

/// The same mount, as events have it.
fn mounted(
    mount: containerd_shim_protos::api::Mount,
) -> containerd_shim_protos::types::mount::Mount {
    mount
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
