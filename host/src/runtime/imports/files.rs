//! `wasi:filesystem/types` and `wasi:io/streams`: as wasmtime provides them, but that no call takes longer than the guest's call
//! may. The work itself is done on other threads; one that hangs in a file system stays there, and the guest's call is over.
//!
//! Only regular files and folders can be opened: a pipe or a device could be waited for without end. What all guests of the job
//! have open together is bounded.

use wasmtime::component::Resource;
use wasmtime_wasi::ResourceTable;
use wasmtime_wasi::filesystem::{WasiFilesystemCtxView, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types as async_files;
use wasmtime_wasi::p2::bindings::io::streams as async_streams;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{self, Descriptor, ErrorCode};
use wasmtime_wasi::p2::bindings::sync::io::streams::{self, InputStream, OutputStream};
use wasmtime_wasi::p2::{DynPollable, FsError, FsResult, StreamError, StreamResult};

use super::InstanceData;

impl InstanceData {
    /// Waits for a call into the file system.
    fn on_files<R>(
        &mut self,
        call: impl AsyncFnOnce(&mut WasiFilesystemCtxView<'_>) -> FsResult<R>,
    ) -> FsResult<R> {
        let done =
            self.waiting(|guest, bounds| bounds.wait_for_files(call(&mut guest.filesystem())));
        done.unwrap_or_else(|passed| Err(FsError::trap(passed)))
    }

    /// Waits for a stream.
    fn on_streams<R>(
        &mut self,
        call: impl AsyncFnOnce(&mut ResourceTable) -> StreamResult<R>,
    ) -> StreamResult<R> {
        let done = self.waiting(|guest, bounds| bounds.wait_for_files(call(&mut guest.table)));
        done.unwrap_or_else(|passed| Err(StreamError::Trap(passed.into())))
    }
}

impl types::Host for InstanceData {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        types::Host::convert_error_code(&mut self.filesystem(), error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<streams::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        types::Host::filesystem_error_code(&mut self.filesystem(), error)
    }
}

impl types::HostDescriptor for InstanceData {
    fn open_at(
        &mut self,
        folder: Resource<Descriptor>,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let looked = Resource::new_borrow(folder.rep());
        match self.stat_at(looked, path_flags, path.clone()) {
            Ok(found) => check_type(found.type_)?,
            // Why not is for the opening to say.
            Err(error) => drop(error.downcast().map_err(FsError::trap)?),
        }
        let file = self.descriptors.one_more()?;
        let opened = self.on_files(async |files| {
            async_files::HostDescriptor::open_at(
                files,
                folder,
                path_flags.into(),
                path,
                open_flags.into(),
                flags.into(),
            )
            .await
        });
        if let Ok(descriptor) = &opened {
            self.descriptors.opened(descriptor.rep(), file);
        }
        opened
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.descriptors.dropped(descriptor.rep());
        async_files::HostDescriptor::drop(&mut self.filesystem(), descriptor)
    }

    fn read_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: types::Filesize,
    ) -> FsResult<Resource<InputStream>> {
        let of = file.rep();
        let stream =
            async_files::HostDescriptor::read_via_stream(&mut self.filesystem(), file, offset)?;
        self.descriptors.streams(of, stream.rep());
        Ok(stream)
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: types::Filesize,
    ) -> FsResult<Resource<OutputStream>> {
        let of = file.rep();
        let stream =
            async_files::HostDescriptor::write_via_stream(&mut self.filesystem(), file, offset)?;
        self.descriptors.streams(of, stream.rep());
        Ok(stream)
    }

    fn append_via_stream(
        &mut self,
        file: Resource<Descriptor>,
    ) -> FsResult<Resource<OutputStream>> {
        let of = file.rep();
        let stream = async_files::HostDescriptor::append_via_stream(&mut self.filesystem(), file)?;
        self.descriptors.streams(of, stream.rep());
        Ok(stream)
    }

    fn is_same_object(
        &mut self,
        a: Resource<Descriptor>,
        b: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        let compared = self.on_files(async |files| {
            let same = async_files::HostDescriptor::is_same_object(files, a, b).await;
            same.map_err(FsError::trap)
        });
        compared.map_err(wasmtime::Error::new)
    }

    fn advise(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: types::Filesize,
        len: types::Filesize,
        advice: types::Advice,
    ) -> FsResult<()> {
        self.on_files(async |files| {
            async_files::HostDescriptor::advise(files, descriptor, offset, len, advice.into()).await
        })
    }

    fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.on_files(async |files| async_files::HostDescriptor::sync_data(files, descriptor).await)
    }

    fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorFlags> {
        self.on_files(async |files| async_files::HostDescriptor::get_flags(files, descriptor).await)
            .map(Into::into)
    }

    fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorType> {
        self.on_files(async |files| async_files::HostDescriptor::get_type(files, descriptor).await)
            .map(Into::into)
    }

    fn set_size(
        &mut self,
        descriptor: Resource<Descriptor>,
        size: types::Filesize,
    ) -> FsResult<()> {
        self.on_files(async |files| {
            async_files::HostDescriptor::set_size(files, descriptor, size).await
        })
    }

    fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        self.on_files(async |files| {
            async_files::HostDescriptor::set_times(
                files,
                descriptor,
                accessed.into(),
                modified.into(),
            )
            .await
        })
    }

    fn read(
        &mut self,
        descriptor: Resource<Descriptor>,
        len: types::Filesize,
        offset: types::Filesize,
    ) -> FsResult<(Vec<u8>, bool)> {
        self.on_files(async |files| {
            async_files::HostDescriptor::read(files, descriptor, len, offset).await
        })
    }

    fn write(
        &mut self,
        descriptor: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: types::Filesize,
    ) -> FsResult<types::Filesize> {
        self.on_files(async |files| {
            async_files::HostDescriptor::write(files, descriptor, bytes, offset).await
        })
    }

    fn read_directory(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<Resource<types::DirectoryEntryStream>> {
        self.on_files(async |files| {
            async_files::HostDescriptor::read_directory(files, descriptor).await
        })
    }

    fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.on_files(async |files| async_files::HostDescriptor::sync(files, descriptor).await)
    }

    fn create_directory_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        self.on_files(async |files| {
            async_files::HostDescriptor::create_directory_at(files, descriptor, path).await
        })
    }

    fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<types::DescriptorStat> {
        self.on_files(async |files| async_files::HostDescriptor::stat(files, descriptor).await)
            .map(Into::into)
    }

    fn stat_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        self.on_files(async |files| {
            async_files::HostDescriptor::stat_at(files, descriptor, flags.into(), path).await
        })
        .map(Into::into)
    }

    fn set_times_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
        accessed: types::NewTimestamp,
        modified: types::NewTimestamp,
    ) -> FsResult<()> {
        self.on_files(async |files| {
            async_files::HostDescriptor::set_times_at(
                files,
                descriptor,
                flags.into(),
                path,
                accessed.into(),
                modified.into(),
            )
            .await
        })
    }

    fn link_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
        to: Resource<Descriptor>,
        to_path: String,
    ) -> FsResult<()> {
        self.on_files(async |files| {
            async_files::HostDescriptor::link_at(files, descriptor, flags.into(), path, to, to_path)
                .await
        })
    }

    fn readlink_at(&mut self, descriptor: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.on_files(async |files| {
            async_files::HostDescriptor::readlink_at(files, descriptor, path).await
        })
    }

    fn remove_directory_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        self.on_files(async |files| {
            async_files::HostDescriptor::remove_directory_at(files, descriptor, path).await
        })
    }

    fn rename_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
        to: Resource<Descriptor>,
        to_path: String,
    ) -> FsResult<()> {
        self.on_files(async |files| {
            async_files::HostDescriptor::rename_at(files, descriptor, path, to, to_path).await
        })
    }

    fn symlink_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
        to_path: String,
    ) -> FsResult<()> {
        self.on_files(async |files| {
            async_files::HostDescriptor::symlink_at(files, descriptor, path, to_path).await
        })
    }

    fn unlink_file_at(&mut self, descriptor: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.on_files(async |files| {
            async_files::HostDescriptor::unlink_file_at(files, descriptor, path).await
        })
    }

    fn metadata_hash(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<types::MetadataHashValue> {
        self.on_files(async |files| {
            async_files::HostDescriptor::metadata_hash(files, descriptor).await
        })
        .map(Into::into)
    }

    fn metadata_hash_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        self.on_files(async |files| {
            async_files::HostDescriptor::metadata_hash_at(files, descriptor, flags.into(), path)
                .await
        })
        .map(Into::into)
    }
}

impl types::HostDirectoryEntryStream for InstanceData {
    fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        let entry = self.on_files(async |files| {
            async_files::HostDirectoryEntryStream::read_directory_entry(files, stream).await
        });
        Ok(entry?.map(Into::into))
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        async_files::HostDirectoryEntryStream::drop(&mut self.filesystem(), stream)
    }
}

/// Whether a guest may open what has this type.
fn check_type(found: types::DescriptorType) -> FsResult<()> {
    use types::DescriptorType::{
        BlockDevice, CharacterDevice, Directory, Fifo, RegularFile, Socket, SymbolicLink, Unknown,
    };
    match found {
        // A link that is not followed is refused by the opening itself.
        RegularFile | Directory | SymbolicLink => Ok(()),
        BlockDevice | CharacterDevice | Fifo | Socket | Unknown => {
            Err(async_files::ErrorCode::NotPermitted.into())
        }
    }
}

impl streams::Host for InstanceData {
    fn convert_stream_error(
        &mut self,
        error: StreamError,
    ) -> wasmtime::Result<streams::StreamError> {
        streams::Host::convert_stream_error(&mut self.table, error)
    }
}

impl streams::HostInputStream for InstanceData {
    fn drop(&mut self, stream: Resource<InputStream>) -> wasmtime::Result<()> {
        self.descriptors.dropped(stream.rep());
        self.wait_for(async |table| async_streams::HostInputStream::drop(table, stream).await)
    }

    fn read(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<Vec<u8>> {
        async_streams::HostInputStream::read(&mut self.table, stream, len)
    }

    fn blocking_read(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<Vec<u8>> {
        self.on_streams(async |table| {
            async_streams::HostInputStream::blocking_read(table, stream, len).await
        })
    }

    fn skip(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<u64> {
        async_streams::HostInputStream::skip(&mut self.table, stream, len)
    }

    fn blocking_skip(&mut self, stream: Resource<InputStream>, len: u64) -> StreamResult<u64> {
        self.on_streams(async |table| {
            async_streams::HostInputStream::blocking_skip(table, stream, len).await
        })
    }

    fn subscribe(
        &mut self,
        stream: Resource<InputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        async_streams::HostInputStream::subscribe(&mut self.table, stream)
    }
}

impl streams::HostOutputStream for InstanceData {
    fn drop(&mut self, stream: Resource<OutputStream>) -> wasmtime::Result<()> {
        self.descriptors.dropped(stream.rep());
        self.wait_for(async |table| async_streams::HostOutputStream::drop(table, stream).await)
    }

    fn check_write(&mut self, stream: Resource<OutputStream>) -> StreamResult<u64> {
        async_streams::HostOutputStream::check_write(&mut self.table, stream)
    }

    fn write(&mut self, stream: Resource<OutputStream>, bytes: Vec<u8>) -> StreamResult<()> {
        async_streams::HostOutputStream::write(&mut self.table, stream, bytes)
    }

    fn blocking_write_and_flush(
        &mut self,
        stream: Resource<OutputStream>,
        bytes: Vec<u8>,
    ) -> StreamResult<()> {
        self.on_streams(async |table| {
            async_streams::HostOutputStream::blocking_write_and_flush(table, stream, bytes).await
        })
    }

    fn blocking_write_zeroes_and_flush(
        &mut self,
        stream: Resource<OutputStream>,
        len: u64,
    ) -> StreamResult<()> {
        self.on_streams(async |table| {
            async_streams::HostOutputStream::blocking_write_zeroes_and_flush(table, stream, len)
                .await
        })
    }

    fn subscribe(
        &mut self,
        stream: Resource<OutputStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        async_streams::HostOutputStream::subscribe(&mut self.table, stream)
    }

    fn write_zeroes(&mut self, stream: Resource<OutputStream>, len: u64) -> StreamResult<()> {
        async_streams::HostOutputStream::write_zeroes(&mut self.table, stream, len)
    }

    fn flush(&mut self, stream: Resource<OutputStream>) -> StreamResult<()> {
        async_streams::HostOutputStream::flush(&mut self.table, stream)
    }

    fn blocking_flush(&mut self, stream: Resource<OutputStream>) -> StreamResult<()> {
        self.on_streams(async |table| {
            async_streams::HostOutputStream::blocking_flush(table, stream).await
        })
    }

    fn splice(
        &mut self,
        to: Resource<OutputStream>,
        from: Resource<InputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        async_streams::HostOutputStream::splice(&mut self.table, to, from, len)
    }

    fn blocking_splice(
        &mut self,
        to: Resource<OutputStream>,
        from: Resource<InputStream>,
        len: u64,
    ) -> StreamResult<u64> {
        self.on_streams(async |table| {
            async_streams::HostOutputStream::blocking_splice(table, to, from, len).await
        })
    }
}
