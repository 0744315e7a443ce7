//! A WASI 0.3 command: connects to ADDRESS PORT, sends TEXT, and prints the answer.
use wasip3::sockets::types::{IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, TcpSocket};
use wasip3::{cli, exports::cli::run::Guest, spawn_local, wit_stream};

struct Connect;

cli::command::export!(Connect);

impl Guest for Connect {
    async fn run() -> Result<(), ()> {
        let args = cli::environment::get_arguments();
        let parts: Vec<u8> =
            args[1].split('.').map(|part| part.parse().expect("an address")).collect();
        let address = (parts[0], parts[1], parts[2], parts[3]);
        let port = args[2].parse().expect("a port");
        let to = IpSocketAddress::Ipv4(Ipv4SocketAddress { port, address });
        let socket = match TcpSocket::create(IpAddressFamily::Ipv4) {
            Ok(socket) => socket,
            Err(error) => return Ok(println!("{error:?}")),
        };
        if let Err(error) = socket.connect(to).await {
            return Ok(println!("{error:?}"));
        }
        let (mut writer, reader) = wit_stream::new();
        let text = args[3].clone();
        spawn_local(async move {
            writer.write_all(text.into_bytes()).await;
        });
        let sent = socket.send(reader);
        let (answer, received) = socket.receive();
        let answer = answer.collect().await;
        sent.await.expect("sent");
        received.await.expect("received");
        println!(
            "{} bytes: {}",
            answer.len(),
            String::from_utf8_lossy(&answer[..answer.len().min(20)])
        );
        Ok(())
    }
}
