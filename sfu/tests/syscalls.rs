//! What a forwarding shard asks of the kernel. Alone in its process, so that its shard is the only.

mod support;

use sfu::io::LinkKind;
use sfu::ports::Gate;
use support::rig::{Rig, send};
use support::until;

/// R106: on io_uring a shard that forwards media makes no system call but the ring's. What it is in
/// is sampled while packets flow.
#[test]
fn a_forwarding_shard_enters_the_kernel_by_its_ring_only() {
    if let Err(error) = sfu::io::available() {
        eprintln!("not run: io_uring is not to be had here: {error}");
        return;
    }
    let mut rig = Rig::new(LinkKind::IoUring, 1);
    let (mut publisher, _) = rig.publish();
    let (mut viewer, _, slot) = rig.watch();
    rig.wait_connected(&mut [&mut publisher, &mut viewer]);
    rig.gates.set(slot, Gate::OPEN);
    let tasks = std::fs::read_dir("/proc/self/task").expect("procfs").flatten();
    let is_shard = |task: &std::fs::DirEntry| {
        std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == "shard-0")
    };
    let shards: Vec<_> = tasks.filter(is_shard).collect();
    assert_eq!(shards.len(), 1, "this test is alone in its process");
    let task = shards[0].path().join("syscall");
    let (mut sent, mut in_ring, mut others) = (0, 0, Vec::new());
    until("3,000 samples and 300 packets", &mut [&mut publisher, &mut viewer], |peers| {
        rig.pump();
        let got = peers[1].packets.len() as u64;
        if sent < got + 30 {
            send(peers[0], sent);
            sent += 1;
        }
        for _ in 0..10 {
            let sample = std::fs::read_to_string(&task).expect("our own thread");
            match sample.split(' ').next().map(str::trim) {
                Some("running") | None => {}
                Some(number) if number == libc::SYS_io_uring_enter.to_string() => in_ring += 1,
                Some(number) => others.push(number.to_owned()),
            }
        }
        in_ring >= 3000 && got >= 300
    });
    assert_eq!(others, Vec::<String>::new(), "numbers of other system calls");
}
