//! `wasm-host:task/context`.

use wasmtime::bail;
use wasmtime::component::Linker;

use super::{HasInstanceData, InstanceData};
use crate::model::shown;
use crate::runtime::bindings::wasm_host::task::context::{self, Host, Input, InputKind};
use crate::runtime::limits::REASON_BYTES;

pub(super) fn link(linker: &mut Linker<InstanceData>) -> wasmtime::Result<()> {
    context::add_to_linker::<InstanceData, HasInstanceData>(linker, |guest| guest)
}

impl Host for InstanceData {
    fn job(&mut self) -> wasmtime::Result<String> {
        Ok(self.context()?.info.job.clone())
    }

    fn stage(&mut self) -> wasmtime::Result<String> {
        Ok(self.context()?.info.stage.clone())
    }

    fn task(&mut self) -> wasmtime::Result<String> {
        Ok(self.context()?.info.name())
    }

    fn partition(&mut self) -> wasmtime::Result<u32> {
        Ok(self.context()?.info.id.partition.0)
    }

    fn partitions(&mut self) -> wasmtime::Result<u32> {
        Ok(self.context()?.info.partitions)
    }

    fn inputs(&mut self) -> wasmtime::Result<Vec<Input>> {
        let input = |port: &String| Input {
            port: port.clone(),
            kind: InputKind::Partitioned,
        };
        Ok(self.context()?.info.inputs.iter().map(input).collect())
    }

    fn component_version(&mut self) -> wasmtime::Result<String> {
        Ok(self.component.sha256().to_owned())
    }

    fn now_ms(&mut self) -> wasmtime::Result<i64> {
        Ok(self.context()?.now())
    }

    fn request_checkpoint(&mut self) -> wasmtime::Result<()> {
        self.context()?.requests_mut().checkpoint = true;
        Ok(())
    }

    fn request_stop(&mut self, reason: String) -> wasmtime::Result<()> {
        let reason = self.component.options.secrets.hide(&reason).into_owned();
        let context = self.context()?;
        if !context.info.may_request_stop {
            bail!("request-stop is not granted: set `request-stop = true` in [stage.capabilities]");
        }
        context.requests_mut().stop = Some(shown::line(reason, REASON_BYTES));
        Ok(())
    }
}
