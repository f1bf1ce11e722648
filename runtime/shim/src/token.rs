//! What an event of `epoll` is about, packed into its 64 bits.

/// Kind and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    /// A child ended.
    Children,
    /// Somebody connects.
    Listener,
    /// A daemon's connection.
    Connection(u32),
    /// The socket to the child while it is being set up.
    Sync,
    /// An output of the process: 1 or 2. A terminal is 1.
    Output(u8),
    /// The input pipe of the process can take more.
    Input,
    /// A client attached to the process.
    Client(u32),
}

impl Token {
    pub fn pack(self) -> u64 {
        let (kind, number) = match self {
            Token::Children => (0u64, 0),
            Token::Listener => (1, 0),
            Token::Connection(number) => (2, number),
            Token::Sync => (3, 0),
            Token::Output(stream) => (4, u32::from(stream)),
            Token::Input => (5, 0),
            Token::Client(number) => (6, number),
        };
        (kind << 32) | u64::from(number)
    }

    pub fn unpack(packed: u64) -> Token {
        let number = packed as u32;
        match packed >> 32 {
            0 => Token::Children,
            1 => Token::Listener,
            2 => Token::Connection(number),
            3 => Token::Sync,
            4 => Token::Output(number as u8),
            5 => Token::Input,
            _ => Token::Client(number),
        }
    }
}
