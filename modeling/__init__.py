"""Encoders, query generators, the cross-encoder teacher and training, all on torch."""

from tercet.modeling.api_client import KEY_VARIABLE as KEY_VARIABLE
from tercet.modeling.api_reranker import ApiReranker as ApiReranker
from tercet.modeling.cross_encoder import (
    CrossEncoderTeacher as CrossEncoderTeacher,
    is_onnx as is_onnx,
)
from tercet.modeling.distributed import from_first_process as from_first_process
from tercet.modeling.encoders.adapted_encoder import (
    CONFIG as ADAPTER_CONFIG,
    AdaptedEncoder as AdaptedEncoder,
    load_query_encoder as load_query_encoder,
)
from tercet.modeling.encoders.api_encoder import ApiEncoder as ApiEncoder
from tercet.modeling.encoders.bi_encoder import BiEncoder as BiEncoder
from tercet.modeling.encoders.projection import regress as regress
from tercet.modeling.encoders.protocols import (
    SimilarityEncoder as SimilarityEncoder,
    Student as Student,
)
from tercet.modeling.encoders.query_adapter import train_adapter as train_adapter
from tercet.modeling.encoders.services import OPENAI as OPENAI, open_service as open_service
from tercet.modeling.encoders.vector_space import VectorSpace as VectorSpace
from tercet.modeling.generators.base import Sampling as Sampling
from tercet.modeling.generators.causal import CausalGenerator as CausalGenerator
from tercet.modeling.generators.chat_model import LocalChat as LocalChat
from tercet.modeling.generators.completions import Completions as Completions
from tercet.modeling.generators.ct2 import (
    CT2Generator as CT2Generator,
    NotConverted as NotConverted,
    describe_engine as describe_engine,
    runs_on_ct2 as runs_on_ct2,
    seq2seq_engine as seq2seq_engine,
)
from tercet.modeling.generators.endpoint import EndpointGenerator as EndpointGenerator
from tercet.modeling.generators.prefix import check_reading as check_reading
from tercet.modeling.generators.prompts import DEFAULT_STYLE as DEFAULT_STYLE, STYLES as STYLES
from tercet.modeling.generators.seq2seq import (
    Seq2SeqGenerator as Seq2SeqGenerator,
    check_doc2query as check_doc2query,
)
from tercet.modeling.hub import (
    has_stand_in as has_stand_in,
    stand_in as stand_in,
    tell_once as tell_once,
)
from tercet.modeling.precision import (
    Measured as Measured,
    Precision as Precision,
    circumstances as circumstances,
    computes as computes,
    default_device as default_device,
    hardware as hardware,
    measured as measured,
)
from tercet.modeling.teachers.reading import Asked as Asked
from tercet.modeling.training.collator import (
    BatchSide as BatchSide,
    Known as Known,
    TokenizedTexts as TokenizedTexts,
    TripletCollator as TripletCollator,
)
from tercet.modeling.training.dry_run import DryRun as DryRun, dry_run as dry_run
from tercet.modeling.training.fit import adapt as adapt
from tercet.modeling.training.losses import (
    ListLoss as ListLoss,
    all_pairs_margin_mse as all_pairs_margin_mse,
)
from tercet.modeling.training.objective import check_widths as check_widths
from tercet.modeling.training.rehearsal import (
    adapter_of_width as adapter_of_width,
    rehearse as rehearse,
)
from tercet.modeling.training.retrieval_evaluation import (
    RetrievalEvaluation as RetrievalEvaluation,
    encode_blocks as encode_blocks,
)
from tercet.modeling.training.trainer import (
    MarginMSETrainer as MarginMSETrainer,
    training_arguments as training_arguments,
)
