#![allow(clippy::unwrap_used)]

use super::*;
use crate::plan::LogTarget;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn local(folder: &Path, max_size: u64, max_files: u32) -> LogTarget {
    LogTarget::Local {
        path: folder.join("container.log"),
        max_size,
        max_files,
    }
}

fn json(folder: &Path, max_size: u64, max_files: u32) -> LogTarget {
    LogTarget::JsonFile {
        path: folder.join("container-json.log"),
        max_size,
        max_files,
        attrs: Default::default(),
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000 + seconds)
}

#[cfg(feature = "host")]
mod host {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;

    type Owned = (Stream, bool, Vec<u8>);

    fn at_time() -> SystemTime {
        at(0)
    }

    fn drain(reader: &mut LogReader) -> Vec<Owned> {
        let mut all = Vec::new();
        while let Some(entry) = reader.next().unwrap() {
            all.push((entry.stream, entry.partial, entry.bytes.to_vec()));
        }
        all
    }

    fn read(target: &LogTarget, options: ReadOptions) -> Vec<Owned> {
        drain(&mut LogReader::open(target, options).unwrap())
    }

    fn tail(count: usize) -> ReadOptions {
        ReadOptions {
            tail: Some(count),
            ..ReadOptions::default()
        }
    }

    fn texts(entries: &[Owned]) -> Vec<String> {
        entries
            .iter()
            .map(|entry| String::from_utf8(entry.2.clone()).unwrap())
            .collect()
    }

    /// What the log must hold, by the simplest possible rule.
    fn model(chunks: &[(Stream, Vec<u8>)]) -> Vec<Owned> {
        let mut out = Vec::new();
        let mut lines: [Vec<u8>; 2] = Default::default();
        for (stream, chunk) in chunks {
            let line = &mut lines[*stream as usize - 1];
            for &byte in chunk {
                if byte == b'\n' {
                    out.push((*stream, false, std::mem::take(line)));
                    continue;
                }
                line.push(byte);
                if line.len() == MAX_LINE {
                    out.push((*stream, true, std::mem::take(line)));
                }
            }
        }
        for (stream, line) in [Stream::Stdout, Stream::Stderr].into_iter().zip(lines) {
            if !line.is_empty() {
                out.push((stream, true, line));
            }
        }
        out
    }

    fn chunks() -> impl Strategy<Value = Vec<(Stream, Vec<u8>)>> {
        let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
        let text = prop_oneof![
            4 => proptest::collection::vec(prop_oneof![Just(b'\n'), b' '..b'~'], 0..80),
            1 => (1usize..40_000).prop_map(|n| vec![b'x'; n]),
            1 => (16_380usize..16_390).prop_map(|n| [vec![b'y'; n], vec![b'\n']].concat()),
        ];
        proptest::collection::vec((stream, text), 0..24)
    }

    fn write_all(target: &LogTarget, chunks: &[(Stream, Vec<u8>)]) {
        let mut log = LogWriter::open(target).unwrap();
        for (index, (stream, chunk)) in chunks.iter().enumerate() {
            log.write(*stream, at(index as u64), chunk).unwrap();
        }
        log.finish(Stream::Stdout, at(99)).unwrap();
        log.finish(Stream::Stderr, at(99)).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_comes_back_however_it_was_cut(chunks in chunks()) {
            let folder = tempfile::tempdir().unwrap();
            for target in [local(folder.path(), 0, 1), json(folder.path(), 0, 1)] {
                write_all(&target, &chunks);
                let expected = model(&chunks);
                prop_assert_eq!(&read(&target, ReadOptions::default()), &expected);
                for count in [0, 1, 3, expected.len(), expected.len() + 5] {
                    let from = expected.len().saturating_sub(count);
                    prop_assert_eq!(&read(&target, tail(count))[..], &expected[from..]);
                }
            }
        }

        #[test]
        fn rotated_files_read_as_one(chunks in chunks(), size in 64u64..50_000) {
            let folder = tempfile::tempdir().unwrap();
            for target in [local(folder.path(), size, 1000), json(folder.path(), size, 1000)] {
                write_all(&target, &chunks);
                let expected = model(&chunks);
                prop_assert_eq!(&read(&target, ReadOptions::default()), &expected);
                let from = expected.len().saturating_sub(7);
                prop_assert_eq!(&read(&target, tail(7))[..], &expected[from..]);
            }
        }

        #[test]
        fn compressed_files_read_as_one(chunks in chunks(), size in 64u64..50_000) {
            let folder = tempfile::tempdir().unwrap();
            for target in [local(folder.path(), size, 1000), json(folder.path(), size, 1000)] {
                write_all(&target, &chunks);
                let plain = read(&target, ReadOptions::default());
                prop_assert_eq!(&plain, &model(&chunks));
                compress(&target).unwrap();
                prop_assert_eq!(&read(&target, ReadOptions::default()), &plain);
                for count in [1, 7, plain.len() / 2] {
                    let from = plain.len().saturating_sub(count);
                    prop_assert_eq!(&read(&target, tail(count))[..], &plain[from..]);
                }
            }
        }

        #[test]
        fn a_position_outlives_rotation_and_compression(chunks in chunks(), size in 64u64..50_000, stop in any::<prop::sample::Index>()) {
            let folder = tempfile::tempdir().unwrap();
            let target = local(folder.path(), size, 1000);
            let half = stop.index(chunks.len() + 1);
            let mut log = LogWriter::open(&target).unwrap();
            let write = |log: &mut LogWriter, chunks: &[(Stream, Vec<u8>)]| {
                for (index, (stream, chunk)) in chunks.iter().enumerate() {
                    log.write(*stream, at(index as u64), chunk).unwrap();
                }
            };
            write(&mut log, &chunks[..half]);
            let mut reader = LogReader::open(&target, ReadOptions::default()).unwrap();
            let mut seen = Vec::new();
            let some = stop.index(20);
            while seen.len() < some && let Some(entry) = reader.next().unwrap() {
                seen.push((entry.stream, entry.partial, entry.bytes.to_vec()));
            }
            let position = reader.position();
            prop_assert!(position.is_some() || seen.is_empty());
            write(&mut log, &chunks[half..]);
            for stream in [Stream::Stdout, Stream::Stderr] {
                log.finish(stream, at(99)).unwrap();
            }
            compress(&target).unwrap();
            if let Some(position) = position {
                let (mut reader, lost) = LogReader::resume(&target, position).unwrap();
                prop_assert!(!lost);
                seen.extend(drain(&mut reader));
                prop_assert_eq!(seen, model(&chunks));
            }
        }

        #[test]
        fn any_compressed_file_is_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), cut in any::<prop::sample::Index>()) {
            let folder = tempfile::tempdir().unwrap();
            let target = local(folder.path(), 100, 5);
            write_all(&target, &[(Stream::Stdout, b"some text that fills a file and more\n".repeat(9))]);
            write_all(&target, &[(Stream::Stdout, b"some text that fills a file and more\n".repeat(9))]);
            write_all(&target, &[(Stream::Stdout, b"some text that fills a file and more\n".repeat(9))]);
            compress(&target).unwrap();
            let path = folder.path().join("container.log.2.gz");
            let mut content = fs::read(&path).unwrap();
            let cut = cut.index(content.len());
            let end = (cut + bytes.len()).min(content.len());
            content.splice(cut..end, bytes);
            fs::write(&path, content).unwrap();
            // What is in the other files is there.
            prop_assert!(read(&target, ReadOptions::default()).len() >= 12);
            read(&target, tail(20));
        }

        #[test]
        fn any_file_is_read_to_its_end(
            noise in prop::collection::vec(prop_oneof![
                any::<Vec<u8>>(),
                Just(b"{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2024-01-01T00:00:00Z\"}\n".to_vec()),
                Just(b"{\"log\":\"\n".to_vec()),
            ], 0..8),
            chunks in chunks(),
            at in any::<prop::sample::Index>(),
        ) {
            let folder = tempfile::tempdir().unwrap();
            for target in [local(folder.path(), 0, 1), json(folder.path(), 0, 1)] {
                let (LogTarget::Local { path, .. } | LogTarget::JsonFile { path, .. }) = &target else { unreachable!() };
                write_all(&target, &chunks);
                let mut content = fs::read(path).unwrap();
                let at = at.index(content.len() + 1);
                content.splice(at..at, noise.concat());
                fs::write(path, &content).unwrap();
                let all = read(&target, ReadOptions::default());
                // Nothing is read twice or made up.
                let bytes: usize = all.iter().map(|entry| entry.2.len()).sum();
                prop_assert!(bytes <= content.len(), "{bytes} of {}", content.len());
                for count in [0, 1, 5] {
                    prop_assert!(read(&target, tail(count)).len() <= all.len().max(count));
                }
                // A writer finds its place behind it.
                LogWriter::open(&target).unwrap().write(Stream::Stdout, at_time(), b"again\n").unwrap();
                prop_assert!(read(&target, ReadOptions::default()).len() <= all.len() + 1);
            }
        }

        #[test]
        fn a_torn_end_costs_no_more_than_its_record(chunks in chunks(), cut in 1u64..2_000) {
            let folder = tempfile::tempdir().unwrap();
            for target in [local(folder.path(), 0, 1), json(folder.path(), 0, 1)] {
                write_all(&target, &chunks);
                let (LogTarget::Local { path, .. } | LogTarget::JsonFile { path, .. }) = &target else { unreachable!() };
                let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
                let length = file.metadata().unwrap().len().saturating_sub(cut);
                file.set_len(length).unwrap();
                let torn = read(&target, ReadOptions::default());
                let expected = model(&chunks);
                prop_assert_eq!(&torn[..], &expected[..torn.len()]);
                prop_assert_eq!(&read(&target, tail(2))[..], &torn[torn.len().saturating_sub(2)..]);
                // The next writer goes on behind the last whole record.
                LogWriter::open(&target).unwrap().write(Stream::Stdout, at(0), b"again\n").unwrap();
                let after = read(&target, ReadOptions::default());
                prop_assert_eq!(after.len(), torn.len() + 1);
                prop_assert_eq!(&after[torn.len()].2, b"again");
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..4_000), count in 0usize..5) {
            let folder = tempfile::tempdir().unwrap();
            for target in [local(folder.path(), 0, 1), json(folder.path(), 0, 1)] {
                let (LogTarget::Local { path, .. } | LogTarget::JsonFile { path, .. }) = &target else { unreachable!() };
                fs::write(path, &bytes).unwrap();
                read(&target, ReadOptions::default());
                read(&target, tail(count));
                LogWriter::open(&target).unwrap();
            }
        }
    }

    #[test]
    fn old_files_go_and_the_size_holds() {
        let folder = tempfile::tempdir().unwrap();
        let target = local(folder.path(), 1_000, 3);
        let mut log = LogWriter::open(&target).unwrap();
        for index in 0..500 {
            log.write(Stream::Stdout, at(index), format!("line {index}\n").as_bytes())
                .unwrap();
        }
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect();
        names.sort_by_key(|entry| entry.file_name());
        assert_eq!(names.len(), 3);
        // A file ends with the record that fills it.
        assert!(names.iter().all(|entry| entry.metadata().unwrap().len() < 1_030));
        let lines = texts(&read(&target, ReadOptions::default()));
        assert_eq!(lines.last().unwrap(), "line 499");
        assert!(lines.len() > 60 && lines.len() < 110, "{}", lines.len());
    }

    #[test]
    fn since_and_until_bound_the_times_and_tail_counts_first() {
        let folder = tempfile::tempdir().unwrap();
        for target in [local(folder.path(), 200, 50), json(folder.path(), 200, 50)] {
            let mut log = LogWriter::open(&target).unwrap();
            for index in 0..20 {
                log.write(Stream::Stderr, at(index), format!("{index}\n").as_bytes())
                    .unwrap();
            }
            let options = ReadOptions {
                since: Some(at(5)),
                until: Some(at(8)),
                tail: None,
            };
            assert_eq!(texts(&read(&target, options)), ["5", "6", "7", "8"]);
            let options = ReadOptions {
                since: Some(at(18)),
                until: None,
                tail: Some(3),
            };
            assert_eq!(texts(&read(&target, options)), ["18", "19"]);
        }
    }

    #[tokio::test]
    async fn following_sees_every_line_across_rotations() {
        let folder = tempfile::tempdir().unwrap();
        for target in [local(folder.path(), 2_000, 500), json(folder.path(), 2_000, 500)] {
            let mut reader = LogReader::open(&target, ReadOptions::default()).unwrap();
            let writer = std::thread::spawn({
                let target = target.clone();
                move || {
                    let mut log = LogWriter::open(&target).unwrap();
                    for index in 0..3_000 {
                        log.write(Stream::Stdout, at(index), format!("{index}\n").as_bytes())
                            .unwrap();
                        if index % 500 == 0 {
                            std::thread::sleep(Duration::from_millis(3));
                        }
                    }
                }
            });
            let mut next = 0;
            while next < 3_000 {
                while let Some(entry) = reader.next().unwrap() {
                    assert_eq!(entry.bytes, next.to_string().as_bytes());
                    next += 1;
                }
                if next < 3_000 {
                    tokio::time::timeout(Duration::from_secs(10), reader.changed())
                        .await
                        .unwrap()
                        .unwrap();
                }
            }
            writer.join().unwrap();
        }
    }

    #[tokio::test]
    async fn following_sees_every_line_while_files_are_compressed() {
        let folder = tempfile::tempdir().unwrap();
        for target in [local(folder.path(), 2_000, 2_000), json(folder.path(), 2_000, 2_000)] {
            let mut reader = LogReader::open(&target, ReadOptions::default()).unwrap();
            let writer = std::thread::spawn({
                let target = target.clone();
                move || {
                    let mut log = LogWriter::open(&target).unwrap();
                    for index in 0..2_000 {
                        log.write(Stream::Stdout, at(index), format!("{index}\n").as_bytes())
                            .unwrap();
                        if index % 20 == 0 {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                }
            });
            let mut next = 0;
            while next < 2_000 {
                compress(&target).unwrap();
                while let Some(entry) = reader.next().unwrap() {
                    assert_eq!(entry.bytes, next.to_string().as_bytes());
                    next += 1;
                    if next % 97 == 0 {
                        compress(&target).unwrap();
                    }
                }
                if next < 2_000 {
                    tokio::time::timeout(Duration::from_secs(10), reader.changed())
                        .await
                        .unwrap()
                        .unwrap();
                }
            }
            writer.join().unwrap();
            compress(&target).unwrap();
            let names = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap());
            let names: Vec<String> = names.collect();
            assert!(
                names.iter().filter(|name| name.ends_with(".gz")).count() > 5,
                "{names:?}"
            );
            assert!(!names.iter().any(|name| name.ends_with("compressing")), "{names:?}");
        }
    }

    #[test]
    fn a_docker_line_with_attributes_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let target = json(folder.path(), 0, 1);
        let line = "{\"log\":\"hi\\u003e\\n\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"x\"},\"time\":\"2024-05-01T10:00:00.5+02:00\"}\n";
        fs::write(folder.path().join("container-json.log"), line).unwrap();
        let mut reader = LogReader::open(&target, ReadOptions::default()).unwrap();
        let entry = reader.next().unwrap().unwrap();
        assert_eq!(entry.bytes, b"hi>");
        assert_eq!(entry.time, UNIX_EPOCH + Duration::from_millis(1_714_550_400_500));
        assert!(!entry.partial);
    }

    #[test]
    fn the_tail_of_a_huge_log_is_near() {
        // 1 GiB without writing it: a hole, and whole records at the end. Only the end may be read.
        let folder = tempfile::tempdir().unwrap();
        let target = local(folder.path(), 0, 1);
        let path = folder.path().join("container.log");
        LogWriter::open(&target)
            .unwrap()
            .write(
                Stream::Stdout,
                at(0),
                "some line of usual length, more or less\n".repeat(5_000).as_bytes(),
            )
            .unwrap();
        let records = fs::read(&path).unwrap();
        let file = fs::File::create(&path).unwrap();
        file.set_len((1 << 30) - records.len() as u64).unwrap();
        file.write_all_at(&records, (1 << 30) - records.len() as u64).unwrap();
        // The best of three: other tests run beside this one.
        let took = (0..3).map(|_| {
            let started = std::time::Instant::now();
            assert_eq!(read(&target, tail(1_000)).len(), 1_000);
            started.elapsed()
        });
        let took = took.min().unwrap();
        assert!(took < Duration::from_millis(50), "{took:?}");
        println!("tail of 1,000 lines of 1 GiB: {took:?}");
    }
}

#[test]
fn a_log_for_nobody_takes_everything() {
    let mut log = LogWriter::open(&LogTarget::None).unwrap();
    log.write(Stream::Stdout, at(0), b"x\ny").unwrap();
    log.finish(Stream::Stdout, at(0)).unwrap();
}

#[test]
fn a_full_disk_loses_lines_but_never_tears_the_file() {
    // RLIMIT_FSIZE and /dev/full do not combine with renames; /dev/full answers ENOSPC to every write.
    let mut log = LogWriter::open(&local(Path::new("/nonexistent"), 0, 1));
    assert!(log.is_err());
    let target = LogTarget::Local {
        path: "/dev/full".into(),
        max_size: 0,
        max_files: 1,
    };
    log = LogWriter::open(&target);
    let mut log = log.unwrap();
    assert!(log.write(Stream::Stdout, at(0), b"x\n").is_err());
    assert!(log.write(Stream::Stdout, at(0), b"y\n").is_err());
    assert_eq!(fs::metadata("/dev/full").unwrap().len(), 0);
}

#[test]
fn json_and_local_of_the_same_folder_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    LogWriter::open(&json(folder.path(), 0, 1)).unwrap();
    LogWriter::open(&local(folder.path(), 0, 1)).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[cfg(feature = "host")]
#[test]
fn a_writer_that_died_between_two_files_hides_none() {
    let folder = tempfile::tempdir().unwrap();
    for target in [local(folder.path(), 100, 9), json(folder.path(), 300, 9)] {
        let (LogTarget::Local { path, .. } | LogTarget::JsonFile { path, .. }) = &target else {
            unreachable!()
        };
        let mut log = LogWriter::open(&target).unwrap();
        for number in 0..12 {
            let line = format!("this is line {number} of some length\n");
            log.write(Stream::Stdout, at(number), line.as_bytes()).unwrap();
        }
        let count = (0..9).filter(|index| rotated(path, *index).exists()).count() as u32;
        assert!(count > 2, "{count} files");
        let read = |options: ReadOptions| {
            let mut reader = LogReader::open(&target, options).unwrap();
            std::iter::from_fn(|| reader.next().unwrap().map(|entry| entry.bytes.to_vec())).collect::<Vec<_>>()
        };
        let whole = read(ReadOptions::default());
        assert_eq!(whole.len(), 12);
        // What it does first when a file is full.
        for index in (0..count).rev() {
            fs::rename(rotated(path, index), rotated(path, index + 1)).unwrap();
        }
        assert_eq!(read(ReadOptions::default()), whole);
        let last = ReadOptions {
            tail: Some(7),
            ..ReadOptions::default()
        };
        assert_eq!(read(last), whole[5..]);
        // A reader that follows goes on with the file that comes at last.
        let mut reader = LogReader::open(&target, ReadOptions::default()).unwrap();
        while reader.next().unwrap().is_some() {}
        let mut log = LogWriter::open(&target).unwrap();
        log.write(Stream::Stdout, at(20), b"again\n").unwrap();
        assert_eq!(reader.next().unwrap().unwrap().bytes, b"again");
        assert!(reader.next().unwrap().is_none());
    }
}
