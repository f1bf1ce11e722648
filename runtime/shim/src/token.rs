//! What an event of `epoll` is about, packed into its 64 bits.

/// Kind, process and number within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// A child ended.
    Children,
    /// Somebody connects.
    Listener,
    /// A daemon's connection.
    Connection(u32),
    /// The socket to a child that is being set up.
    Sync(u32),
    /// An output of a process: 1 or 2. A terminal is 1.
    Output(u32, u8),
    /// The input pipe of a process can take more.
    Input(u32),
    /// A client attached to a process.
    Client(u32, u32),
}

impl Token {
    pub fn pack(self) -> u64 {
        let (kind, process, number) = match self {
            Token::Children => (0u64, 0, 0),
            Token::Listener => (1, 0, 0),
            Token::Connection(number) => (2, 0, number),
            Token::Sync(process) => (3, process, 0),
            Token::Output(process, stream) => (4, process, u32::from(stream)),
            Token::Input(process) => (5, process, 0),
            Token::Client(process, number) => (6, process, number),
        };
        // 24 bits of process number and 32 of client number: a shim would need years of execs to wrap.
        (kind << 56) | (u64::from(process & 0xff_ffff) << 32) | u64::from(number)
    }

    pub fn unpack(packed: u64) -> Token {
        let process = (packed >> 32) as u32 & 0xff_ffff;
        let number = packed as u32;
        match packed >> 56 {
            0 => Token::Children,
            1 => Token::Listener,
            2 => Token::Connection(number),
            3 => Token::Sync(process),
            4 => Token::Output(process, number as u8),
            5 => Token::Input(process),
            _ => Token::Client(process, number),
        }
    }
}
