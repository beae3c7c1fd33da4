"""Models, and what trains them: the one room that knows torch."""

from tercet.modeling.adapt import adapt as adapt
from tercet.modeling.adapter import QueryAdapter as QueryAdapter
from tercet.modeling.adapter import train_adapter as train_adapter
from tercet.modeling.callbacks import RetrievalEvaluation as RetrievalEvaluation
from tercet.modeling.callbacks import encode_blocks as encode_blocks
from tercet.modeling.callbacks import from_first_process as from_first_process
from tercet.modeling.causal_generator import CausalGenerator as CausalGenerator
from tercet.modeling.collator import TripletCollator as TripletCollator
from tercet.modeling.ct2_generator import CT2Generator as CT2Generator
from tercet.modeling.ct2_generator import describe_engine as describe_engine
from tercet.modeling.ct2_generator import seq2seq_engine as seq2seq_engine
from tercet.modeling.encoder import BiEncoder as BiEncoder
from tercet.modeling.generator import Seq2SeqGenerator as Seq2SeqGenerator
from tercet.modeling.generator import check_doc2query as check_doc2query
from tercet.modeling.losses import all_pairs_margin_mse as all_pairs_margin_mse
from tercet.modeling.objective import check_widths as check_widths
from tercet.modeling.precision import hardware as hardware
from tercet.modeling.rehearsal import Rehearsal as Rehearsal
from tercet.modeling.rehearsal import rehearse as rehearse
from tercet.modeling.sampler import Sampling as Sampling
from tercet.modeling.styles import DEFAULT_STYLE as DEFAULT_STYLE
from tercet.modeling.styles import STYLES as STYLES
from tercet.modeling.teacher import CrossEncoderTeacher as CrossEncoderTeacher
from tercet.modeling.trainer import MarginMSETrainer as MarginMSETrainer
from tercet.modeling.trainer import training_arguments as training_arguments
