//! A child that dies with its parent, and is asked before it is killed.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Child, Command},
};

/// Has the kernel kill the child when the thread that spawns it ends, however that happens. Spawn it
/// from a thread that lives as long as the child should.
pub fn die_with_parent(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure makes two system calls that are async-signal-safe,
    // touches no memory but its own copy of `parent`, and allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent died before the line above: nobody would send the signal.
            if libc::getppid().cast_unsigned() != parent {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        })
    }
}

/// Asks the child to end in order: SIGTERM. One that has ended already hears nothing.
pub fn terminate(child: &mut Child) {
    // Reaped children have no number any more, and another process may have it.
    if let Ok(None) = child.try_wait() {
        let pid = child.id().cast_signed();
        // SAFETY: a plain system call. The child is not waited for yet, so the number is its own.
        unsafe { libc::kill(pid, libc::SIGTERM) };
    }
}
