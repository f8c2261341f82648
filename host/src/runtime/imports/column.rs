//! Columns: read where they lie in the guest's memory, and lowered into it.

use wasmtime::component::{ComponentType, Lift, Lower, WasmList};
use wasmtime::{StoreContextMut, ensure, format_err};

use super::InstanceData;
use crate::model::{Column, check_parts, iterate};

/// A column in the guest's memory.
#[derive(ComponentType, Lift)]
#[component(record)]
pub(super) struct GuestColumn {
    ends: WasmList<u8>,
    data: WasmList<u8>,
    absent: WasmList<u8>,
}

/// A column on its way to the guest.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(super) struct HostColumn {
    ends: Vec<u8>,
    data: Vec<u8>,
    absent: Vec<u8>,
}

impl From<Column> for HostColumn {
    fn from(column: Column) -> HostColumn {
        let (ends, data, absent) = column.into_parts();
        HostColumn {
            ends: bytemuck::cast_slice(&ends).to_vec(),
            data,
            absent: bytemuck::cast_slice(&absent).to_vec(),
        }
    }
}

/// A guest's column, checked and borrowed.
#[derive(Clone, Copy)]
pub(super) struct ColumnView<'a> {
    ends: &'a [[u8; 4]],
    data: &'a [u8],
    absent: &'a [[u8; 4]],
}

impl<'a> ColumnView<'a> {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Option<&'a [u8]>> + 'a {
        iterate(self.ends, self.data, self.absent)
    }
}

impl GuestColumn {
    pub(super) fn view<'a>(
        &self,
        store: &'a StoreContextMut<'_, InstanceData>,
        what: &str,
    ) -> wasmtime::Result<ColumnView<'a>> {
        let view = ColumnView {
            ends: packed(&self.ends, store, &format_args!("`ends` of {what}"))?,
            data: self.data.as_le_slice(store),
            absent: packed(&self.absent, store, &format_args!("`absent` of {what}"))?,
        };
        check_parts(view.ends, view.data.len(), view.absent)
            .map_err(|error| format_err!("the column of {what}: {error}"))?;
        Ok(view)
    }
}

/// Packed numbers of `N` bytes each, in the guest's memory.
pub(super) fn packed<'a, const N: usize>(
    list: &WasmList<u8>,
    store: &'a StoreContextMut<'_, InstanceData>,
    what: &dyn std::fmt::Display,
) -> wasmtime::Result<&'a [[u8; N]]> {
    let bytes = list.as_le_slice(store);
    let (numbers, rest) = bytes.as_chunks::<N>();
    ensure!(
        rest.is_empty(),
        "{what} has {} bytes, which are no whole number of packed numbers of {N} bytes",
        bytes.len()
    );
    Ok(numbers)
}
