//! The way on which `agent identity` is told what was seen of calls.

use nullius_mesh::{Hears, Unheard};
use nullius_proto::node_v1::{SeenBatch, SeenReceipt};
use tonic::Code;

use crate::link::Link;

impl Hears for Link {
    async fn tell(&self, batch: SeenBatch) -> Result<SeenReceipt, Unheard> {
        let request = self.request(batch).map_err(|error| Unheard::NotNow(error.to_string()))?;
        match self.seeing().tell(request).await {
            Ok(receipt) => Ok(receipt.into_inner()),
            // The second is said of a message that is too long.
            Err(status) if matches!(status.code(), Code::InvalidArgument | Code::OutOfRange) => {
                Err(Unheard::Refused(status.message().to_owned()))
            }
            Err(status) => Err(Unheard::NotNow(status.message().to_owned())),
        }
    }
}
