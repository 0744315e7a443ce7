//! A WASI 0.3 command: makes names in the first directory until it is refused, or writes BYTES to a file, or says what
//! is in it: fill file|folder|link|symlink, fill write BYTES, or fill list.
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{
    Descriptor, DescriptorFlags, DescriptorType, ErrorCode, OpenFlags, PathFlags,
};
use wasip3::{cli, exports::cli::run::Guest, spawn_local, wit_stream};

struct Fill;

cli::command::export!(Fill);

async fn open(dir: &Descriptor, path: String, how: OpenFlags) -> Result<Descriptor, ErrorCode> {
    dir.open_at(PathFlags::empty(), path, how, DescriptorFlags::READ | DescriptorFlags::WRITE).await
}

async fn make(dir: &Descriptor, what: &str, path: String) -> Result<(), ErrorCode> {
    match what {
        "file" => open(dir, path, OpenFlags::CREATE | OpenFlags::EXCLUSIVE).await.map(drop),
        "folder" => dir.create_directory_at(path).await,
        "link" => dir.link_at(PathFlags::empty(), "first".into(), dir, path).await,
        "symlink" => dir.symlink_at("first".into(), path).await,
        other => panic!("cannot make a {other}"),
    }
}

async fn list(dir: &Descriptor) -> Result<(), ()> {
    let (mut stream, done) = dir.read_directory();
    let (mut names, mut folders, mut links) = (0, 0, 0);
    while let Some(entry) = stream.next().await {
        names += 1;
        folders += u32::from(matches!(entry.type_, DescriptorType::Directory));
        links += u32::from(matches!(entry.type_, DescriptorType::SymbolicLink));
    }
    done.await.expect("listed");
    println!("{names} names, {folders} folders, {links} links");
    Ok(())
}

impl Guest for Fill {
    async fn run() -> Result<(), ()> {
        let args = cli::environment::get_arguments();
        let (dir, _) = get_directories().remove(0);
        if args[1] == "list" {
            return list(&dir).await;
        }
        let first = open(&dir, "first".into(), OpenFlags::CREATE).await.expect("a first file");
        if args[1] == "write" {
            let bytes = vec![b'x'; args[2].parse().expect("a number of bytes")];
            let (mut writer, reader) = wit_stream::new();
            spawn_local(async move { drop(writer.write_all(bytes).await) });
            let written = first.write_via_stream(reader, 0).await;
            let length = first.stat().await.expect("a file").size;
            return Ok(println!("{length} bytes: {written:?}"));
        }
        for number in 1.. {
            if let Err(error) = make(&dir, &args[1], number.to_string()).await {
                let again = open(&dir, "first".into(), OpenFlags::CREATE).await;
                return Ok(println!(
                    "{number} names, then {error:?}; the first opens: {}",
                    again.is_ok()
                ));
            }
            if number == 100_000 {
                return Ok(println!("no end"));
            }
        }
        Ok(())
    }
}
